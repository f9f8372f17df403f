//! What `range` gives.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Error, Value};

use super::slices::slice_bounds;
use crate::data::template::fault::failed;

/// What `range` gives.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) start: i64,
    pub(crate) stop: i64,
    pub(crate) step: i64,
}

/// The longest range, as in Jinja2's sandbox.
const MAX_RANGE: i64 = 100_000;

impl Range {
    /// `range(start, stop, step)`; an error where it is too long or the step is 0.
    pub(crate) fn new(start: i64, stop: i64, step: i64) -> Result<Range, Error> {
        if step == 0 {
            return Err(failed("range() arg 3 must not be zero"));
        }
        let range = Range { start, stop, step };
        if range.len() > i128::from(MAX_RANGE) {
            Err(failed(format!("a range longer than {MAX_RANGE}")))
        } else {
            Ok(range)
        }
    }

    fn len(&self) -> i128 {
        let (span, step) = (i128::from(self.stop) - i128::from(self.start), i128::from(self.step));
        let steps = (span + step - step.signum()) / step;
        steps.max(0)
    }

    /// The part that a slice leaves, as a range.
    pub(crate) fn slice(&self, bounds: [Option<i64>; 3]) -> Result<Range, Error> {
        let (start, stop, step) = slice_bounds(usize::try_from(self.len()).unwrap_or(0), bounds)?;
        let at = |index: i64| index.checked_mul(self.step).and_then(|offset| offset.checked_add(self.start));
        let whole = (at(start), at(stop), step.checked_mul(self.step));
        let (Some(start), Some(stop), Some(step)) = whole else { return Err(failed("a number that is too large")) };
        Ok(Range { start, stop, step })
    }

    fn get(&self, index: i64) -> Option<Value> {
        let at = (0..self.len()).contains(&i128::from(index));
        // Modulo 2^64 the sum is right even where the product does not fit.
        at.then(|| Value::from(self.start.wrapping_add(index.wrapping_mul(self.step))))
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get(key.as_i64()?)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(usize::try_from(self.len()).unwrap_or(0))
    }
}
