//! What was found in a graph, for people: `frostline layers model.onnx`.

use std::path::Path;

use serde::Serialize;

use crate::error::Result;
use crate::onnx::GraphIndex;
use crate::onnx::pb::{NodeProto, TensorProto, ValueInfoProto};
use crate::onnx::value_info;
use crate::rewrite::export::Export;
use crate::rewrite::latent::LatentSpaces;

/// What an ONNX file holds and where its latent spaces are. Needs no config.json.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layers {
    /// Version of the standard operator set.
    pub opset: i64,
    /// The program that exported it, with its version.
    pub producer: String,
    /// Nodes of the graph.
    pub nodes: usize,
    /// Bytes of weights inside the file.
    pub weights_inside: u64,
    /// Data files and their sizes in bytes.
    pub external: Vec<ExternalFile>,
    /// Inputs of the graph.
    pub inputs: Vec<GraphValue>,
    /// Outputs of the graph.
    pub outputs: Vec<GraphValue>,
    /// The token embedding.
    pub embedding: WeightMatrix,
    /// L + 1 latent spaces, from the embedding's output up.
    pub latent_spaces: Vec<LatentSpace>,
    /// Operators of the final norm, in order.
    pub final_norm: Vec<String>,
    /// The LM head.
    pub head: WeightMatrix,
}

/// A data file beside the ONNX file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExternalFile {
    /// Its name, relative to the ONNX file.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GraphValue {
    /// Its name.
    pub name: String,
    /// Its type and shape: `int64 [batch, sequence]`.
    pub kind: String,
}

/// Embedding or LM head.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightMatrix {
    /// The weight's tensor.
    pub tensor: String,
    /// Vocabulary, hidden size.
    pub shape: [usize; 2],
    /// The node that reads it.
    pub node: String,
}

/// One latent space.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatentSpace {
    /// Its index: 0 is the embedding's output, L the last layer's.
    pub space: usize,
    /// The tensor, as it is named by hand.
    pub tensor: String,
    /// The node that makes it.
    pub node: String,
    /// That node's operator.
    pub op: String,
    /// What the exporter calls the layer, where its names say so.
    pub label: Option<String>,
    /// Nodes of the layer, its residual adds included; 0 for space 0.
    pub nodes: usize,
    /// Residual adds of the layer.
    pub residual_adds: usize,
}

/// Describes what is found in an export, with the latent spaces of these names where they are `named` by hand.
///
/// # Errors
/// For a file that is no whole export, and where no latent spaces are found in it.
pub fn layers(path: &Path, named: Option<&[String]>) -> Result<Layers> {
    let model = Export::open(path)?.model;
    let spaces = LatentSpaces::find(&model, named)?;
    let graph = model.graph();
    let index = GraphIndex::new(graph);
    let values = |list: &[ValueInfoProto]| {
        list.iter().map(|value| GraphValue { name: value.name.clone(), kind: value_info::describe(value) }).collect()
    };
    let inside = |(_, tensor): (_, &TensorProto)| tensor.raw_data.len() as u64;
    let node = |id: usize| name_of(index.node(id));
    Ok(Layers {
        opset: model.opset(),
        producer: model.producer(),
        nodes: graph.node.len(),
        weights_inside: model.constants().map(inside).sum(),
        external: model.external().sizes().map(|(name, bytes)| ExternalFile { name: name.into(), bytes }).collect(),
        inputs: values(&graph.input),
        outputs: values(&graph.output),
        embedding: WeightMatrix {
            tensor: spaces.embedding.weight.clone(),
            shape: [spaces.embedding.rows, spaces.embedding.width],
            node: node(spaces.embedding.node),
        },
        latent_spaces: (0..spaces.spaces.len()).map(|space| latent_space(&index, &spaces, space)).collect(),
        final_norm: spaces.norm.nodes.iter().map(|&id| index.node(id).op_type.clone()).collect(),
        head: WeightMatrix {
            tensor: spaces.head.weight.clone(),
            shape: [spaces.head.vocabulary, spaces.head.hidden],
            node: node(spaces.head.node),
        },
    })
}

fn latent_space(index: &GraphIndex, spaces: &LatentSpaces, space: usize) -> LatentSpace {
    let tensor = spaces.spaces[space].clone();
    let layer = space.checked_sub(1).and_then(|layer| spaces.layers.get(layer)).cloned().unwrap_or_default();
    let producer = index.producer(&tensor).map(|id| index.node(id));
    LatentSpace {
        space,
        node: producer.map(name_of).unwrap_or_default(),
        op: producer.map(|node| node.op_type.clone()).unwrap_or_default(),
        tensor,
        label: layer.label,
        nodes: layer.nodes.len(),
        residual_adds: layer.residual_adds,
    }
}

fn name_of(node: &NodeProto) -> String {
    if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() }
}
