//! Training's progress.

use std::time::Instant;

use frostline_runtime::Error;
use frostline_runtime::train::{Observer, Start};
use frostline_schemas::run::StepMetrics;

use super::{Bar, NEXT_LINE, time_left};
use crate::arguments::LogEvery;
use crate::output::Output;
use crate::render::units::{bytes, count, duration};

/// Steps whose mean loss is reported as the last.
const RECENT: usize = 20;
/// Lines that a run logs where nothing else is asked for.
const LINES: u64 = 10;
/// Steps from which on it can be said whether the loss falls.
const TELLING: usize = 10;

/// Follows training: a bar or lines for people, the losses for the report.
pub struct TrainingProgress {
    bar: Bar,
    log_every: LogEvery,
    begun: Instant,
    /// When the last line was logged, and after how many steps.
    last_line: (Instant, usize),
    steps: u64,
    tokens: u64,
    losses: Vec<f64>,
    seconds: Vec<f64>,
    /// Frost lines of steps, where they differ.
    frost_lines: Vec<usize>,
}

impl TrainingProgress {
    /// Training begins with reading.
    pub fn new(output: &Output, log_every: LogEvery) -> TrainingProgress {
        let now = Instant::now();
        TrainingProgress {
            bar: Bar::new(output, "reading model and rows"),
            log_every,
            begun: now,
            last_line: (now, 0),
            steps: 0,
            tokens: 0,
            losses: Vec::new(),
            seconds: Vec::new(),
            frost_lines: Vec::new(),
        }
    }

    /// The files are read.
    pub fn load(&self) {
        self.bar.begin("loading the model", 0);
    }

    /// Ends with what was seen; warns where the loss has not fallen.
    pub fn finish(self) -> Seen {
        let TrainingProgress { tokens, losses, seconds, frost_lines, .. } = self;
        let seen = Seen { tokens, losses, seconds, frost_lines };
        if let Some((first, last)) = seen.without_a_fall() {
            tracing::warn!(
                "the loss has not fallen by more than it varies: {first:.4} in the first steps, {last:.4} in the last; \
                 try another --learning-rate, or more steps"
            );
        }
        seen
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
        self.last_line = (now, self.losses.len());
        let elapsed = now.duration_since(self.begun);
        let left = time_left(elapsed, step, self.steps).unwrap_or_default();
        Some(format!(
            "step {step} of {}: loss {:.4}, {:.3} s a step, {} left",
            self.steps,
            mean(self.losses.get(before..).unwrap_or_default()),
            elapsed.as_secs_f64() / step as f64,
            duration(left)
        ))
    }
}

impl Observer for TrainingProgress {
    fn started(&mut self, start: &Start) -> Result<(), Error> {
        self.steps = start.steps;
        self.begun = Instant::now();
        self.last_line = (self.begun, 0);
        self.bar.begin_unlogged("training", start.steps);
        tracing::info!(
            "training {} tensors ({} parameters) above frost line {} for {} steps",
            start.trained_tensors,
            count(start.trained_parameters as f64),
            start.frost_line,
            start.steps
        );
        Ok(())
    }

    fn caching(&mut self, done: usize, all: usize, size: u64) -> Result<(), Error> {
        if done == 0 {
            self.bar.begin("caching the state at the frost line", all as u64);
            tracing::info!("caching the state at the frost line of {all} rows, {} on disk", bytes(size));
        }
        self.bar.set(done as u64, "rows");
        Ok(())
    }

    fn step(&mut self, metrics: &StepMetrics) -> Result<(), Error> {
        self.tokens += metrics.tokens;
        self.losses.push(metrics.loss);
        self.seconds.push(metrics.seconds);
        self.frost_lines.extend(metrics.frost_line);
        self.bar.set(metrics.step, format!("steps, loss {:.4}", metrics.loss));
        if let Some(line) = self.line(metrics.step, Instant::now()) {
            tracing::info!("{line}");
        }
        if metrics.step == self.steps {
            self.bar.begin("checking what was trained", 0);
        }
        Ok(())
    }

    fn evaluating(&mut self, done: usize, all: usize) {
        self.bar.go_on("evaluating", done as u64, all as u64, "rows");
    }
}

/// What was seen of a training.
pub struct Seen {
    pub tokens: u64,
    losses: Vec<f64>,
    seconds: Vec<f64>,
    frost_lines: Vec<usize>,
}

impl Seen {
    /// Loss of the first step.
    pub fn first_loss(&self) -> f64 {
        self.losses.first().copied().unwrap_or(f64::NAN)
    }

    /// Mean loss of the last steps.
    pub fn last_loss(&self) -> f64 {
        mean(self.recent())
    }

    /// Losses of the last steps.
    pub fn recent(&self) -> &[f64] {
        &self.losses[self.losses.len().saturating_sub(RECENT)..]
    }

    /// Seconds of a usual step: the first takes its memory, and some are disturbed.
    pub fn median_step_seconds(&self) -> f64 {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Mean frost line of the steps, where they differ.
    pub fn mean_frost_line(&self) -> Option<f64> {
        let steps = self.frost_lines.len();
        (steps > 0).then(|| self.frost_lines.iter().sum::<usize>() as f64 / steps as f64)
    }

    /// Mean losses of the first and of the last steps, where the run is long enough to compare them and the fall is
    /// within what they vary by: one standard error of the difference.
    fn without_a_fall(&self) -> Option<(f64, f64)> {
        if self.losses.len() < TELLING {
            return None;
        }
        let some = RECENT.min(self.losses.len() / 2);
        let (first, last) = (&self.losses[..some], &self.losses[self.losses.len() - some..]);
        let error = (squared_error(first) + squared_error(last)).sqrt();
        let (first, last) = (mean(first), mean(last));
        (first - last <= error).then_some((first, last))
    }
}

/// The squared standard error of a mean.
fn squared_error(numbers: &[f64]) -> f64 {
    let (mean, count) = (mean(numbers), numbers.len() as f64);
    numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / (count * (count - 1.0))
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(losses: &[f64]) -> Seen {
        Seen { tokens: 0, losses: losses.to_vec(), seconds: Vec::new(), frost_lines: Vec::new() }
    }

    #[test]
    fn a_loss_that_has_not_fallen_is_noticed() {
        let rising: Vec<f64> = (0..60).map(f64::from).collect();
        assert_eq!(seen(&rising).without_a_fall(), Some((9.5, 49.5)));
        assert_eq!(seen(&[1.0; 12]).without_a_fall(), Some((1.0, 1.0)));
        assert_eq!(seen(&[1.0; TELLING - 1]).without_a_fall(), None);
        let falling: Vec<f64> = rising.into_iter().rev().collect();
        assert_eq!(seen(&falling).without_a_fall(), None);
        let varying: Vec<f64> = (0..40).map(|step| f64::from(step % 7) - 0.001 * f64::from(step)).collect();
        assert!(seen(&varying).without_a_fall().is_some());
    }
}
