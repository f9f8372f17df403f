//! What the sample's traces say together: mean deviations, gains, and where each example's freezing ends.

use frostline_schemas::plan::{Aggregate, Decision, Gain, SpaceMeasured};
use frostline_schemas::select::{CostTable, Scores};
use frostline_schemas::units::significant;

use super::example_traces::ExampleTrace;
use super::stability::stability;
use super::{deviation, frost_line, gain, signals};
use crate::error::Result;

/// What the examples say.
pub(crate) struct Measured<'a> {
    traces: &'a [ExampleTrace],
    /// Mean and spread of each space's deviation.
    trace: Vec<(f64, f64)>,
    /// Gains of the mean trace.
    gains: Scores<usize>,
    /// Each example's end-of-freezing layer.
    pub ends: Vec<usize>,
    gain: Gain,
    min_trainable: usize,
}

impl Measured<'_> {
    /// Looks through the examples' traces; `min_trainable` layers at the output are no candidates.
    pub(crate) fn new(traces: &[ExampleTrace], gain: Gain, min_trainable: usize) -> Measured<'_> {
        let end = |trace: &ExampleTrace| gain::end_of_freezing(&gain::gains(&trace.deviations, gain), min_trainable);
        let trace = deviation::mean_and_spread(&traces.iter().map(|trace| &trace.deviations[..]).collect::<Vec<_>>());
        let gains = gain::gains(&means(&trace), gain);
        Measured { ends: traces.iter().map(end).collect(), traces, trace, gains, gain, min_trainable }
    }

    /// The frost line that the examples call for, within the budget, and how stable it is on resamples by a seed.
    pub(crate) fn decide(
        &self,
        aggregate: Aggregate,
        budget: Option<f64>,
        cost: &CostTable,
        seed: u64,
    ) -> Result<Decision> {
        let of_mean = gain::end_of_freezing(&self.gains, self.min_trainable);
        let wanted = frost_line::aggregate(&self.ends, of_mean, aggregate);
        let within = |wanted| frost_line::within_budget(wanted, budget, cost, self.min_trainable);
        let decision = within(wanted)?;
        let of_resample = |chosen: &[usize]| {
            let wanted = self.wanted(chosen, aggregate);
            within(wanted).map_or(wanted, |decision| decision.frost_line)
        };
        let stability = stability(self.traces.len(), seed, decision.frost_line, of_resample);
        Ok(Decision { stability: Some(stability), ..decision })
    }

    /// The frost line that these of the examples call for.
    fn wanted(&self, chosen: &[usize], aggregate: Aggregate) -> usize {
        let ends = |&index: &usize| self.ends[index];
        let of_mean = match aggregate {
            Aggregate::MeanTrace => {
                let chosen: Vec<&[f64]> = chosen.iter().map(|&index| &self.traces[index].deviations[..]).collect();
                let mean = means(&deviation::mean_and_spread(&chosen));
                gain::end_of_freezing(&gain::gains(&mean, self.gain), self.min_trainable)
            }
            Aggregate::Median | Aggregate::Quantile(_) => 0,
        };
        frost_line::aggregate(&chosen.iter().map(ends).collect::<Vec<usize>>(), of_mean, aggregate)
    }

    /// What a plan states of each latent space. `classes` are those of the examples, where they have any.
    pub(crate) fn spaces(&self, classes: Option<&[Option<usize>]>) -> Vec<SpaceMeasured> {
        let signals = signals::of_spaces(self.traces, classes, self.trace.len());
        let measured = self.trace.iter().zip(signals).enumerate();
        measured
            .map(|(space, (&(deviation, spread), signals))| SpaceMeasured {
                space,
                deviation: significant(deviation),
                spread: significant(spread),
                gain: self.gains.get(&space).map(significant),
                ends_here: self.ends.iter().filter(|&&end| end == space).count(),
                variability: signals.variability.map(significant),
                cka_distance: signals.cka_distance.map(significant),
            })
            .collect()
    }
}

/// The mean trace.
fn means(trace: &[(f64, f64)]) -> Vec<f64> {
    trace.iter().map(|(mean, _)| *mean).collect()
}
