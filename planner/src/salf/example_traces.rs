//! From batches to each example's trace: runs the model and holds its hidden states against the semantic basis.

use std::path::Path;

use frostline_schemas::data::Example;

use super::basis::Basis;
use super::deviation;
use crate::batch::BatchGroup;
use crate::engine::{BatchTraces, Engine};
use crate::error::Result;
use crate::progress::Progress;

/// An example, by its index in the sample, and its deviation in each of the L + 1 latent spaces.
pub(crate) type ExampleTrace = (usize, Vec<f64>);

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
                traces.push((index, deviation::example_trace(&found, first, example, basis, data)?));
                first += example.targets.len();
            }
            progress.advance(group.examples[batch].len() as u64);
            Ok(())
        })?;
    }
    Ok(traces)
}

/// Traces by their examples' index in a sample of so many; empty where an example has none.
pub(crate) fn in_order(examples: usize, traces: impl IntoIterator<Item = ExampleTrace>) -> Vec<Vec<f64>> {
    let mut all = vec![Vec::new(); examples];
    for (index, trace) in traces {
        if let Some(slot) = all.get_mut(index) {
            *slot = trace;
        }
    }
    all
}
