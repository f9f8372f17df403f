//! A comparison's progress.

use std::time::Instant;

use frostline_runtime::compare::{Arm, Watcher};
use frostline_runtime::train::Hook;

use super::{TrainingProgress, time_left};
use crate::arguments::LogEvery;
use crate::output::Output;
use crate::render::units::duration;

/// Follows a comparison: a line for each training, and each training's own bar or lines.
pub(crate) struct ComparisonProgress<'a> {
    output: &'a Output,
    begun: Instant,
    /// Arms that are done, and all.
    done: u64,
    all: u64,
}

impl<'a> ComparisonProgress<'a> {
    pub(crate) fn new(output: &'a Output, arms: usize) -> ComparisonProgress<'a> {
        ComparisonProgress { output, begun: Instant::now(), done: 0, all: arms as u64 }
    }

    /// An arm is done.
    pub(crate) fn arm_done(&mut self) {
        self.done += 1;
    }

    /// Which arm it is, and how long all of them will take if they go on as they went.
    fn place(&self, arm: &Arm) -> String {
        let left = time_left(self.begun.elapsed(), self.done, self.all);
        let left = left.map_or_else(String::new, |left| format!(", about {} left", duration(left)));
        format!("arm {} of {}{left}: {}", self.done + 1, self.all, arm.name)
    }
}

impl Watcher for ComparisonProgress<'_> {
    fn measuring(&mut self, arm: &Arm) {
        tracing::info!("{}, measuring its steps", self.place(arm));
    }

    fn training(&mut self, arm: &Arm, learning_rate: f64, seed: u64) -> Box<dyn Hook> {
        tracing::info!("{}, rate {learning_rate:e}, seed {seed}", self.place(arm));
        let progress = TrainingProgress::new(self.output, LogEvery::Off);
        progress.load();
        Box::new(progress)
    }
}
