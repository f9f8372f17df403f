//! Finds the token embedding: the `Gather` of a weight's rows by token ids.

use std::collections::HashSet;

use super::constants::{RESHAPING, weight};
use super::head::LmHead;
use crate::error::{Error, Result};
use crate::onnx::names::INPUT_IDS;
use crate::onnx::quantised::QuantisedMatrix;
use crate::onnx::{GraphIndex, OnnxModel};

/// The token embedding.
#[derive(Clone, Debug)]
pub(crate) struct Embedding {
    /// The `Gather`.
    pub node: usize,
    /// Its output.
    pub output: String,
    /// The weight's name.
    pub weight: String,
    pub rows: usize,
    pub width: usize,
    /// The graph input that holds the token ids.
    pub ids: String,
}

/// Operators that hand token ids on.
const OF_IDS: [&str; 4] = ["Where", "Clip", "Slice", "Concat"];

/// Looks for a gather of rows by the ids of `input_ids`, or else of any input; one with as many rows as the LM head first.
pub(crate) fn find(model: &OnnxModel, index: &GraphIndex, head: &LmHead) -> Result<Embedding> {
    let mut inputs: Vec<&str> = model.graph().input.iter().map(|input| input.name.as_str()).collect();
    inputs.retain(|name| index.constant(name).is_none());
    inputs.sort_by_key(|name| *name != INPUT_IDS);
    let found: Vec<Embedding> = inputs.iter().flat_map(|input| gathers(index, input)).collect();
    let fits = |embedding: &&Embedding| embedding.rows >= head.vocabulary;
    match found.iter().find(fits) {
        Some(embedding) => Ok(embedding.clone()),
        None => {
            let weights: Vec<String> =
                found.iter().map(|e| format!("`{}` [{}, {}]", e.weight, e.rows, e.width)).collect();
            let seen = format!(
                "the LM head `{}` has {} rows, and inputs ({}) index {}",
                head.weight,
                head.vocabulary,
                inputs.join(", "),
                if weights.is_empty() { "no weight".into() } else { weights.join(", ") },
            );
            Err(Error::NoEmbedding { path: model.path().into(), seen })
        }
    }
}

/// Every gather from a matrix by the ids of one input.
fn gathers(index: &GraphIndex, ids: &str) -> Vec<Embedding> {
    let mut seen = HashSet::from([ids.to_owned()]);
    let mut found = Vec::new();
    for (id, node) in index.graph.node.iter().enumerate() {
        let op = node.op_type.as_str();
        if ["Gather", "GatherBlockQuantized"].contains(&op) && node.input.get(1).is_some_and(|name| seen.contains(name))
        {
            found.extend(gather(index, id, ids));
        } else if (RESHAPING.contains(&op) || OF_IDS.contains(&op)) && node.input.iter().any(|name| seen.contains(name))
        {
            seen.extend(node.output.iter().cloned());
        }
    }
    found
}

fn gather(index: &GraphIndex, id: usize, ids: &str) -> Option<Embedding> {
    let node = index.node(id);
    let (name, [rows, width]) = match QuantisedMatrix::of(index, node) {
        Some(matrix) => (matrix.packed.name.as_str(), [matrix.rows, matrix.columns]),
        None => {
            let weight = weight(index, node.input.first()?)?;
            (weight.name, weight.sizes()?)
        }
    };
    let output = node.output.first()?.clone();
    Some(Embedding { node: id, output, weight: name.into(), rows, width, ids: ids.into() })
}
