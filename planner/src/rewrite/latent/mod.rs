//! Finds a model's latent spaces in its graph by structure: LM head ← final norm ← residual adds ← embedding.
//!
//! The residual stream is what every path from the embedding to the LM head runs through. So the walk is: find the LM
//! head from the logits back ([`head`]); find the embedding from the token ids on ([`embedding`]); between the two take
//! the chain of dominators ([`stream`]), whose residual adds mark the layers. Names play no part, since each exporter
//! has its own; they only label what was found.

mod constants;
pub(crate) mod embedding;
mod head;
mod norm;
mod stream;

use self::embedding::Embedding;
use self::head::LmHead;
use self::norm::FinalNorm;
use self::stream::LayerNodes;
use crate::error::{Error, Result};
use crate::onnx::{GraphIndex, OnnxModel};

/// Where a model's L + 1 latent spaces, its embedding, final norm and LM head are in a graph. Nodes are given by their index.
#[derive(Clone, Debug)]
pub(crate) struct LatentSpaces {
    pub embedding: Embedding,
    /// Tensors [batch, sequence, hidden]: the embedding's output, then the residual stream after each layer.
    pub spaces: Vec<String>,
    /// What makes up each layer; empty where the spaces were named by hand.
    pub layers: Vec<LayerNodes>,
    pub norm: FinalNorm,
    pub head: LmHead,
}

impl LatentSpaces {
    /// Finds the latent spaces; with `named`, takes these tensors for them.
    pub(crate) fn find(model: &OnnxModel, named: Option<&[String]>) -> Result<LatentSpaces> {
        let index = GraphIndex::new(model.graph());
        let head = head::find(model, &index)?;
        let embedding = embedding::find(model, &index, &head)?;
        let (spaces, layers) = match named {
            Some(names) => (by_hand(model, &index, names, &embedding, &head)?, Vec::new()),
            None => stream::find(model, &index, &embedding, &head)?,
        };
        let Some(last) = spaces.last() else {
            let (seen, candidates) = ("no space at all".into(), stream::candidates(&index, &embedding, &head));
            return Err(Error::NoLatentSpaces { path: model.path().into(), seen, candidates });
        };
        let norm = norm::find(model, &index, last, &head)?;
        Ok(LatentSpaces { embedding, spaces, layers, norm, head })
    }

    /// L, the number of decoder layers.
    pub(crate) fn layer_count(&self) -> usize {
        self.spaces.len().saturating_sub(1)
    }
}

fn by_hand(
    model: &OnnxModel,
    index: &GraphIndex,
    names: &[String],
    embedding: &Embedding,
    head: &LmHead,
) -> Result<Vec<String>> {
    let candidates = || stream::candidates(index, embedding, head);
    let bad = |reason: String| Error::NamedSpace { path: model.path().into(), reason, candidates: candidates() };
    if names.len() < 2 {
        return Err(bad("at least two tensors are needed, the embedding's output and one layer's".into()));
    }
    match names.iter().find(|name| index.producer(name).is_none()) {
        Some(name) => Err(bad(format!("no node makes a tensor `{name}`"))),
        None => Ok(names.to_vec()),
    }
}
