//! From batches to each example's trace: runs the model and holds its hidden states against the semantic basis.

use std::path::Path;

use frostline_schemas::data::Example;

use super::basis::Basis;
use super::{deviation, states};
use crate::batch::BatchGroup;
use crate::engine::{BatchTraces, Engine};
use crate::error::Result;
use crate::progress::Progress;

/// What the run of one example leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct ExampleTrace {
    /// Its place in the sample, in the order drawn.
    pub example: usize,
    /// In each of the L + 1 latent spaces the mean deviation over its targets.
    pub deviations: Vec<f64>,
    /// [L + 1, hidden]: in each latent space the state after the final norm at its first target. Empty for all but the first
    /// 256 examples of a sample.
    pub states: Vec<f32>,
}

/// The trace of each example in `groups`, in their order: for each latent space, the mean deviation over its targets.
/// `data`, where the examples came from, is for messages.
pub(crate) fn example_traces(
    engine: &mut dyn Engine,
    examples: &[Example],
    groups: &[BatchGroup],
    basis: &Basis,
    data: &Path,
    progress: &dyn Progress,
) -> Result<Vec<ExampleTrace>> {
    let mut traces = Vec::new();
    for group in groups {
        tracing::debug!(shape = ?group.shape, batches = group.batches.len(), "running");
        engine.run(group.shape, &group.batches, &mut |batch, found: BatchTraces| {
            let mut first = 0;
            for &index in &group.examples[batch] {
                let example = &examples[index];
                let deviations = deviation::example_trace(&found, first, example, basis, data)?;
                let states = if states::are_kept(index) { states::at(&found, first) } else { Vec::new() };
                traces.push(ExampleTrace { example: index, deviations, states });
                first += example.targets.len();
            }
            progress.advance(group.examples[batch].len() as u64);
            Ok(())
        })?;
    }
    Ok(traces)
}

/// Traces in the order of the sample.
pub(crate) fn in_order(mut traces: Vec<ExampleTrace>) -> Vec<ExampleTrace> {
    traces.sort_by_key(|trace| trace.example);
    traces
}
