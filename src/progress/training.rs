//! Training's progress.

use std::ops::ControlFlow;
use std::time::Instant;

use frostline_runtime::Error;
use frostline_runtime::train::{Caching, Hook, Start, Step, Summary};

use super::{Bar, NEXT_LINE, time_left};
use crate::arguments::LogEvery;
use crate::output::Output;
use crate::render::units::{bytes, count, duration, plural};

/// Lines that a run logs where nothing else is asked for.
const LINES: u64 = 10;

/// Follows training: a bar or lines for people, the losses for the report.
pub(crate) struct TrainingProgress {
    bar: Bar,
    log_every: LogEvery,
    begun: Instant,
    /// When the last line was logged, and after how many steps.
    last_line: (Instant, usize),
    /// All that are to come; 0 where a clock decides.
    steps: u64,
    summary: Summary,
}

impl TrainingProgress {
    /// Training begins with reading.
    pub(crate) fn new(output: &Output, log_every: LogEvery) -> TrainingProgress {
        let now = Instant::now();
        TrainingProgress {
            bar: Bar::new(output, "reading model and rows"),
            log_every,
            begun: now,
            last_line: (now, 0),
            steps: 0,
            summary: Summary::default(),
        }
    }

    /// The files are read.
    pub(crate) fn load(&self) {
        self.bar.begin("loading the model", 0);
    }

    /// The files are read, and a dry run begins.
    pub(crate) fn measure(&self) {
        self.bar.begin("taking steps in memory", 0);
    }

    /// Ends with what was seen; warns where the loss has not fallen.
    pub(crate) fn finish(self) -> Summary {
        if let Some((first, last)) = self.summary.without_a_fall() {
            tracing::warn!(
                "the loss has not fallen by more than it varies: {first:.4} in the first steps, {last:.4} in the last; \
                 try another --learning-rate, or more steps"
            );
        }
        self.summary
    }

    /// A line on how training goes, if it is time for one.
    fn line(&mut self, step: u64, now: Instant) -> Option<String> {
        let (last, before) = self.last_line;
        let is_due = match self.log_every {
            LogEvery::Off => false,
            LogEvery::Auto if self.bar.is_drawn() => false,
            LogEvery::Auto => step.is_multiple_of(self.steps.div_ceil(LINES)) || now.duration_since(last) >= NEXT_LINE,
            LogEvery::Steps(every) => step.is_multiple_of(every),
        };
        if !is_due {
            return None;
        }
        self.last_line = (now, self.summary.losses().len());
        let elapsed = now.duration_since(self.begun);
        let left = time_left(elapsed, step, self.steps).unwrap_or_default();
        Some(format!(
            "step {step} of {}: loss {:.4}, {:.3} s a step, {} left",
            self.steps,
            self.summary.mean_loss_after(before),
            elapsed.as_secs_f64() / step as f64,
            duration(left)
        ))
    }
}

impl Hook for TrainingProgress {
    fn started(&mut self, start: &Start) -> Result<(), Error> {
        self.steps = if start.by_clock { 0 } else { start.steps };
        self.begun = Instant::now();
        self.last_line = (self.begun, 0);
        self.bar.begin_unlogged("training", self.steps);
        tracing::info!(
            "training {} ({} parameters) above frost line {} for {}{}",
            plural(start.trained_tensors, "tensor"),
            count(start.trained_parameters as f64),
            start.frost_line,
            if start.by_clock { "about " } else { "" },
            plural(start.steps, "step")
        );
        Ok(())
    }

    fn caching(&mut self, Caching { done, all, bytes: size }: Caching) -> Result<(), Error> {
        if done == 0 {
            self.bar.begin("caching the state at the frost line", all as u64);
            tracing::info!("caching the state at the frost line of {}, {} on disk", plural(all, "row"), bytes(size));
        }
        self.bar.set(done as u64, "rows");
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<ControlFlow<()>, Error> {
        let flow = self.summary.step(step)?;
        let metrics = step.metrics;
        self.bar.set(metrics.step, format!("steps, loss {:.4}", metrics.loss));
        if let Some(line) = self.line(metrics.step, Instant::now()) {
            tracing::info!("{line}");
        }
        if metrics.step == self.steps {
            self.bar.begin("checking what was trained", 0);
        }
        Ok(flow)
    }

    fn evaluating(&mut self, done: usize, all: usize) {
        self.bar.go_on("evaluating", done as u64, all as u64, "rows");
    }
}
