//! Keeps only those rows of a graph's token embedding that a sample needs.
//!
//! In a small model of a large vocabulary the embedding is most of the weights, and a sample uses a few thousand rows of
//! it. The sample's tokens are then renumbered.

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::pb::{NodeProto, TensorProto, tensor_proto::DataType};

use super::latent::embedding::Embedding;
use crate::batch::PaddedBatch;
use crate::onnx::node::integer;
use crate::onnx::{GraphIndex, OnnxModel};

/// The embedding's new weight.
const WEIGHT: &str = "frostline.embedding";

/// The row that each token has now.
#[derive(Clone, Debug)]
pub(crate) struct Rows(BTreeMap<i64, i64>);

/// Replaces the embedding's weight by the rows of `tokens`; other tokens must not be fed any more. The model stays as it is where the weight is quantised or transposed, or where token ids serve
/// another purpose, too.
pub(crate) fn prune(
    model: OnnxModel,
    embedding: &Embedding,
    tokens: impl IntoIterator<Item = i64>,
) -> (OnnxModel, Option<Rows>) {
    // Padding is token 0.
    let tokens: BTreeSet<i64> = tokens.into_iter().chain([0]).collect();
    let Some(weight) = chosen(&model, embedding, &tokens) else { return (model, None) };
    let model = model.with_graph(|mut graph| {
        graph.node[embedding.node].input[0] = WEIGHT.to_owned();
        graph.initializer.push(weight);
        graph
    });
    (model, Some(Rows(tokens.into_iter().zip(0..).collect())))
}

fn chosen(model: &OnnxModel, embedding: &Embedding, tokens: &BTreeSet<i64>) -> Option<TensorProto> {
    let index = GraphIndex::new(model.graph());
    let node = index.node(embedding.node);
    let reads_shape = |node: &NodeProto| node.op_type == "Shape";
    let only_rows = |&id: &usize| id == embedding.node || reads_shape(index.node(id));
    let plain = node.op_type == "Gather" && node.input == [embedding.weight.as_str(), embedding.ids.as_str()];
    let rows = integer(node, "axis", 0) == 0;
    if !(plain && rows && index.consumers(&embedding.ids).iter().all(only_rows)) {
        return None;
    }
    let proto = index.constant(&embedding.weight)?;
    let tensor = model.tensor(proto).ok()?;
    let row_bytes = tensor.bytes.len().checked_div(embedding.rows)?;
    let width = i64::try_from(embedding.width).ok()?;
    let whole = [DataType::Float, DataType::Float16].contains(&tensor.dtype);
    let mut raw_data = Vec::new();
    for &token in tokens {
        let start = usize::try_from(token).ok().filter(|&row| whole && row < embedding.rows)? * row_bytes;
        raw_data.extend_from_slice(tensor.bytes.get(start..start + row_bytes)?);
    }
    model.release(proto, tensor.bytes.len());
    let dims = vec![tokens.len() as i64, width];
    Some(TensorProto { name: WEIGHT.into(), data_type: proto.data_type, dims, raw_data, ..Default::default() })
}

impl Rows {
    /// Renumbers a batch's tokens.
    pub(crate) fn renumber(&self, batch: &mut PaddedBatch) {
        for token in &mut batch.tokens {
            *token = self.0.get(token).copied().unwrap_or_default();
        }
    }
}
