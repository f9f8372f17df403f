//! The progress of probes.

use frostline_runtime::probe::Watch;
use frostline_runtime::train::Hook;

use super::{Bar, TrainingProgress};
use crate::arguments::LogEvery;
use crate::output::Output;

/// Follows probes: a line for each, and each one's own bar or lines.
pub(crate) struct ProbeProgress<'a> {
    output: &'a Output,
    gradients: Option<Bar>,
    number: usize,
}

impl<'a> ProbeProgress<'a> {
    pub(crate) fn new(output: &'a Output) -> ProbeProgress<'a> {
        ProbeProgress { output, gradients: None, number: 0 }
    }
}

impl Watch for ProbeProgress<'_> {
    fn gradients(&mut self, done: usize, all: usize) {
        let bar = self.gradients.get_or_insert_with(|| Bar::new(self.output, "computing gradients"));
        bar.go_on("computing gradients", done as u64, all as u64, "batches");
        if done == all {
            self.gradients = None;
        }
    }

    fn probing(&mut self, arm: &str, learning_rate: f64, steps: u64) -> Box<dyn Hook> {
        self.number += 1;
        tracing::info!("probe {}: {arm}, {steps} steps at {learning_rate:e}", self.number);
        Box::new(TrainingProgress::new(self.output, LogEvery::Off))
    }
}
