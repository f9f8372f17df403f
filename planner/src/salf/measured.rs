//! What the sample's traces say together: mean deviations, gains, and where each example's freezing ends.

use frostline_schemas::plan::{Aggregate, Decision, Gain, SpaceMeasured};
use frostline_schemas::select::{CostTable, Scores};

use super::{deviation, frost_line, gain};
use crate::error::Result;

/// What the examples say.
pub(crate) struct Measured {
    /// Mean and spread of each space's deviation.
    trace: Vec<(f64, f64)>,
    /// Gains of the mean trace.
    gains: Scores<usize>,
    /// Each example's end-of-freezing layer.
    pub ends: Vec<usize>,
    min_trainable: usize,
}

impl Measured {
    /// Looks through the examples' traces; `min_trainable` layers at the output are no candidates.
    pub(crate) fn new(traces: &[Vec<f64>], gain: Gain, min_trainable: usize) -> Measured {
        let end = |trace: &Vec<f64>| gain::end_of_freezing(&gain::gains(trace, gain), min_trainable);
        let trace = deviation::mean_and_spread(traces);
        let means: Vec<f64> = trace.iter().map(|(mean, _)| *mean).collect();
        Measured { gains: gain::gains(&means, gain), ends: traces.iter().map(end).collect(), trace, min_trainable }
    }

    /// The frost line that the examples call for, within the budget.
    pub(crate) fn decide(&self, aggregate: Aggregate, budget: Option<f64>, cost: &CostTable) -> Result<Decision> {
        let of_mean = gain::end_of_freezing(&self.gains, self.min_trainable);
        let frost_line = frost_line::aggregate(&self.ends, of_mean, aggregate);
        frost_line::within_budget(frost_line, budget, cost, self.min_trainable)
    }

    /// What a plan states of each latent space.
    pub(crate) fn spaces(&self) -> Vec<SpaceMeasured> {
        let measured = self.trace.iter().enumerate();
        measured
            .map(|(space, &(deviation, spread))| SpaceMeasured {
                space,
                deviation: rounded(deviation),
                spread: rounded(spread),
                gain: self.gains.get(&space).map(rounded),
                ends_here: self.ends.iter().filter(|&&end| end == space).count(),
            })
            .collect()
    }
}

/// To six significant digits, so that a plan's file is readable.
pub(crate) fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}
