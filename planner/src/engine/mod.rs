//! Runs a graph that computes [traces](crate::rewrite::trace_outputs): tokens in, transition traces out.

pub(crate) mod inputs;
pub(crate) mod ort;
pub(crate) mod ort_library;
pub(crate) mod tract;

use crate::batch::{BatchShape, PaddedBatch};
use crate::error::{Error, Result};

/// The transition traces of a batch.
#[derive(Clone, Debug)]
pub(crate) struct BatchTraces {
    /// [spaces, positions, hidden]: each latent space's hidden state after the final norm.
    pub values: Vec<f32>,
    pub spaces: usize,
    pub positions: usize,
    pub hidden: usize,
}

/// Takes the traces of a batch, by the batch's number.
pub(crate) type Sink<'a> = dyn FnMut(usize, BatchTraces) -> Result<()> + 'a;

/// Runs an edited graph.
pub(crate) trait Engine {
    /// `tract` or `ort`.
    fn name(&self) -> &'static str;

    fn version(&self) -> String;

    /// `cpu` or `cuda`.
    fn provider(&self) -> &'static str;

    /// Runs batches that all have one shape, and hands on their traces in order. What was compiled for the shape is
    /// dropped on return.
    fn run(&mut self, shape: BatchShape, batches: &[PaddedBatch], sink: &mut Sink) -> Result<()>;
}

impl BatchTraces {
    /// Checks an engine's output against the shape it was asked for.
    pub(crate) fn new(
        engine: &'static str,
        shape: BatchShape,
        found: &[usize],
        values: Vec<f32>,
    ) -> Result<BatchTraces> {
        match *found {
            [spaces, positions, hidden]
                if positions == shape.positions && values.len() == spaces * positions * hidden =>
            {
                Ok(BatchTraces { values, spaces, positions, hidden })
            }
            _ => Err(Error::Engine {
                engine,
                reason: format!("traces of shape {found:?} for {} positions", shape.positions),
            }),
        }
    }

    /// One hidden state.
    pub(crate) fn hidden_state(&self, space: usize, position: usize) -> &[f32] {
        let start = (space * self.positions + position) * self.hidden;
        &self.values[start..start + self.hidden]
    }
}
