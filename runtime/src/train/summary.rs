//! What a training's steps come to: how long one takes, and how the loss has gone.

use crate::error::Error;
use crate::train::hook::{Hook, Step};
use std::ops::ControlFlow;

/// Steps whose mean loss is the last loss.
const RECENT: usize = 20;
/// Steps from which on it can be said whether the loss falls.
const TELLING: usize = 10;

/// Adds up steps as they are taken. Before the first step its numbers are NaN.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    tokens: u64,
    losses: Vec<f64>,
    seconds: Vec<f64>,
    /// Frost lines of steps, where they differ.
    frost_lines: Vec<usize>,
}

impl Summary {
    /// Tokens of all steps.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The loss of each step.
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }

    /// Loss of the first step.
    pub fn first_loss(&self) -> f64 {
        self.losses.first().copied().unwrap_or(f64::NAN)
    }

    /// Losses of the last steps.
    pub fn recent(&self) -> &[f64] {
        &self.losses[self.losses.len().saturating_sub(RECENT)..]
    }

    /// Mean loss of the last steps.
    pub fn last_loss(&self) -> f64 {
        mean(self.recent())
    }

    /// Mean loss of the steps after the first `before`; NaN where there is none.
    pub fn mean_loss_after(&self, before: usize) -> f64 {
        mean(self.losses.get(before..).unwrap_or_default())
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
    pub fn without_a_fall(&self) -> Option<(f64, f64)> {
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

impl Hook for Summary {
    fn step(&mut self, step: &Step) -> Result<ControlFlow<()>, Error> {
        let metrics = step.metrics;
        self.tokens += metrics.tokens;
        self.losses.push(metrics.loss);
        self.seconds.push(metrics.seconds);
        self.frost_lines.extend(metrics.frost_line);
        Ok(ControlFlow::Continue(()))
    }
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

/// The squared standard error of a mean.
fn squared_error(numbers: &[f64]) -> f64 {
    let (mean, count) = (mean(numbers), numbers.len() as f64);
    numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / (count * (count - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(losses: &[f64]) -> Summary {
        Summary { losses: losses.to_vec(), ..Summary::default() }
    }

    #[test]
    fn a_loss_that_has_not_fallen_is_noticed() {
        let rising: Vec<f64> = (0..60).map(f64::from).collect();
        assert_eq!(summary(&rising).without_a_fall(), Some((9.5, 49.5)));
        assert_eq!(summary(&[1.0; 12]).without_a_fall(), Some((1.0, 1.0)));
        assert_eq!(summary(&[1.0; TELLING - 1]).without_a_fall(), None);
        let falling: Vec<f64> = rising.into_iter().rev().collect();
        assert_eq!(summary(&falling).without_a_fall(), None);
        let varying: Vec<f64> = (0..40).map(|step| f64::from(step % 7) - 0.001 * f64::from(step)).collect();
        assert!(summary(&varying).without_a_fall().is_some());
    }
}
