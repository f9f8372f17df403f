//! The coverage check: on its first step training must reach exactly the planned tensors.

use std::collections::BTreeSet;

use crate::error::{CoverageGap, Error};
use crate::model::gradients::Squares;
use crate::model::scope::Scope;

/// Checks that exactly the tensors of the scope received a gradient, and that all of it is finite. Returns the names of
/// those whose gradient is zero everywhere, which is odd but can be right.
///
/// # Errors
/// [`Error::Coverage`] with the names.
pub fn check_coverage(squares: &Squares, scope: &Scope) -> Result<Vec<String>, Error> {
    let planned: BTreeSet<&str> = scope.names().collect();
    let names = |keep: &dyn Fn(&str, f64) -> bool| -> Vec<String> {
        squares.iter().filter(|(name, square)| keep(name, **square)).map(|(name, _)| name.clone()).collect()
    };
    let gap = CoverageGap {
        missing: planned.iter().filter(|name| !squares.contains_key(**name)).map(|name| (*name).to_owned()).collect(),
        unplanned: names(&|name, _| !planned.contains(name)),
        infinite: names(&|_, square| !square.is_finite()),
    };
    let odd = |name: &str, square| square == 0.0 && !scope.is_zero_at_first(name);
    if gap.is_empty() { Ok(names(&odd)) } else { Err(Error::Coverage(gap)) }
}
