//! What all layers share for one batch: which tokens see each other, where outputs are wanted, rotary tables.

use candle_core::{Device, Tensor};
use frostline_schemas::model::{DecoderConfig, RopeSpec};

use crate::data::Batch;
use crate::error::Error;
use crate::ops::select::{self, Selection};
use crate::ops::sequences::Sequences;
use crate::ops::{residual, rope};

/// The tokens at which a layer's output is wanted. Keys and values are needed at all tokens either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokens {
    All,
    /// Where targets are predicted: of the last layer nothing else is read.
    Targets,
}

/// What all layers share for one batch.
#[derive(Debug)]
pub(crate) struct Context {
    all: Sequences,
    at_targets: Sequences,
    targets: Selection,
    /// The tables of the rotary embeddings.
    tables: Vec<(RopeSpec, rope::Table)>,
}

impl Context {
    /// The context of a batch.
    pub(crate) fn new(config: &DecoderConfig, batch: &Batch, device: &Device) -> Result<Context, Error> {
        let mut context = Context {
            all: batch.sequences.clone(),
            at_targets: batch.sequences.at(&batch.predicted_at),
            targets: Selection::new(batch.predicted_at.clone(), device)?,
            tables: Vec::new(),
        };
        for layer in &config.layers {
            let Some(spec) = layer.attention.rope else { continue };
            if context.table(&spec).is_none() {
                let table = rope::Table::new(&spec, batch.sequences.longest(), device)?;
                context.tables.push((spec, table));
            }
        }
        Ok(context)
    }

    pub(super) fn table(&self, spec: &RopeSpec) -> Option<&rope::Table> {
        self.tables.iter().find(|(of, _)| of == spec).map(|(_, table)| table)
    }

    pub(super) fn sequences(&self, at: Tokens) -> &Sequences {
        match at {
            Tokens::All => &self.all,
            Tokens::Targets => &self.at_targets,
        }
    }

    /// The rows at the tokens asked for, out of rows for all tokens.
    pub(crate) fn select(&self, x: &Tensor, at: Tokens) -> Result<Tensor, Error> {
        match at {
            Tokens::All => Ok(x.clone()),
            Tokens::Targets => Ok(select::forward(x, &self.targets)?),
        }
    }

    /// Adds the gradient of wanted rows to that of all rows, `sum`, which nobody else holds.
    pub(crate) fn select_backward(&self, dy: &Tensor, at: Tokens, sum: Tensor) -> Result<Tensor, Error> {
        match at {
            Tokens::All => Ok(residual::add(sum, dy)?),
            Tokens::Targets => Ok(select::backward(dy, &self.targets, sum)?),
        }
    }
}
