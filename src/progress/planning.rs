//! Planning's progress.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Instant;

use frostline_planner::{Progress, Stage};

use super::Bar;
use crate::output::Output;

/// Shows how far planning has come, and keeps what its steps took.
pub(crate) struct PlanningProgress {
    bar: Bar,
    done: Cell<u64>,
    begun: RefCell<Vec<(Stage, Instant)>>,
}

impl PlanningProgress {
    /// Planning begins with reading.
    pub(crate) fn new(output: &Output) -> PlanningProgress {
        PlanningProgress { bar: Bar::new(output, what(Stage::Reading)), done: Cell::new(0), begun: RefCell::default() }
    }

    /// Ends with what each step took, in seconds, by its name.
    pub(crate) fn finish(self) -> BTreeMap<&'static str, f64> {
        let begun = self.begun.borrow();
        let ends = begun.iter().skip(1).map(|(_, end)| *end).chain([Instant::now()]);
        begun.iter().zip(ends).map(|(&(step, start), end)| (name(step), (end - start).as_secs_f64())).collect()
    }
}

impl Progress for PlanningProgress {
    fn begin(&self, step: Stage, total: u64) {
        tracing::debug!(?step);
        self.begun.borrow_mut().push((step, Instant::now()));
        self.done.set(0);
        self.bar.begin(what(step), total);
    }

    fn advance(&self, done: u64) {
        self.done.set(self.done.get() + done);
        let parts = match self.begun.borrow().last() {
            Some((Stage::Spectrum, _)) => "matrices",
            _ => "examples",
        };
        self.bar.set(self.done.get(), parts);
    }
}

/// A step's name for machines.
fn name(step: Stage) -> &'static str {
    match step {
        Stage::Reading => "reading",
        Stage::Comparing => "comparing",
        Stage::Loading => "loading",
        Stage::Running => "running",
        Stage::Spectrum => "spectrum",
    }
}

/// A step in words.
fn what(step: Stage) -> &'static str {
    match step {
        Stage::Reading => "reading model and examples",
        Stage::Comparing => "comparing the export with the model",
        Stage::Loading => "loading the graph",
        Stage::Running => "running the model",
        Stage::Spectrum => "measuring spectra",
    }
}
