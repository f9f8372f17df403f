//! Edits a graph so that it computes transition traces instead of logits.
//!
//! Each latent space's rows at the target positions are gathered, stacked, and one copy of the final norm's own nodes is
//! applied to all of them at once. So any norm works unchanged and only [spaces, positions, hidden] leaves the graph. What
//! follows the last layer's attention is copied, too, and applied to those rows alone ([`last_layer`]).
//! Everything that the traces do not need is cut away: logits, LM head (unless tied), key-value outputs.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{self, GraphProto, NodeProto, ValueInfoProto, tensor_proto::DataType};

use crate::onnx::build::{integer, node, vector};
use crate::onnx::node::reads;
use crate::onnx::{GraphIndex, OnnxModel};
use crate::rewrite::latent::LatentSpaces;

/// The added input: [positions, 2] of i64, each a row of the batch and a position in it.
pub(crate) const TARGET_POSITIONS: &str = "frostline.positions";
/// The only output: [L + 1, positions, hidden] of f32, each latent space's hidden states after the final norm.
pub(crate) const TRACES: &str = "frostline.traces";
/// The shape that gathered rows are given.
const ROW_SHAPE: &str = "frostline.row_shape";

/// Replaces a model's outputs by its transition traces.
pub(crate) fn trace(model: OnnxModel, spaces: &LatentSpaces) -> OnnxModel {
    let opset = model.opset();
    model.with_graph(|graph| edit(graph, spaces, opset))
}

fn edit(mut graph: GraphProto, spaces: &LatentSpaces, opset: i64) -> GraphProto {
    let hidden = spaces.head.hidden;
    let mut added = Vec::new();
    let stacked = stack(&graph, spaces, &mut added);
    let normed = copy_norm(&graph, spaces, &stacked, &mut added);
    added.push(cast_to_f32(&normed));
    graph.node.extend(added);
    graph.initializer.push(vector(ROW_SHAPE, &[1, -1, i64::try_from(hidden).unwrap_or(-1)]));
    graph.input.push(value_info(TARGET_POSITIONS, DataType::Int64, &["positions", "2"]));
    graph.output = vec![value_info(TRACES, DataType::Float, &["spaces", "positions", &hidden.to_string()])];
    graph.value_info.clear();
    graph.quantization_annotation.clear();
    tracing::debug!(opset, nodes = graph.node.len(), "traces added");
    cut(graph)
}

/// Gathers the positions' rows of each space and stacks them; the tensor's name.
fn stack(graph: &GraphProto, spaces: &LatentSpaces, nodes: &mut Vec<NodeProto>) -> String {
    let tail = super::last_layer::tail(&GraphIndex::new(graph), &spaces.spaces);
    let earlier = spaces.spaces.iter().map(String::as_str).rev().skip(1).rev();
    let mut rows: HashMap<&str, String> = HashMap::new();
    for tensor in earlier.chain(tail.starts) {
        rows.entry(tensor).or_insert_with(|| gather(tensor, nodes));
    }
    for id in tail.nodes {
        nodes.push(copy(&graph.node[id], "frostline.last", &mut rows));
    }
    let stacked = "frostline.stacked".to_owned();
    let rows: Vec<&str> =
        spaces.spaces.iter().filter_map(|space| rows.get(space.as_str())).map(String::as_str).collect();
    nodes.push(node("Concat", &rows, &stacked, vec![integer("axis", 0)]));
    stacked
}

/// Gathers the positions' rows of a tensor [batch, sequence, hidden] as [1, positions, hidden]; the name of these.
fn gather(tensor: &str, nodes: &mut Vec<NodeProto>) -> String {
    let gathered = format!("frostline.gathered/{tensor}");
    let rows = format!("frostline.rows/{tensor}");
    nodes.push(node("GatherND", &[tensor, TARGET_POSITIONS], &gathered, Vec::new()));
    nodes.push(node("Reshape", &[&gathered, ROW_SHAPE], &rows, Vec::new()));
    rows
}

/// Copies the final norm's nodes to apply them to `stacked`; the name of the copy's output.
fn copy_norm(graph: &GraphProto, spaces: &LatentSpaces, stacked: &str, nodes: &mut Vec<NodeProto>) -> String {
    let last = spaces.spaces.last().map_or("", String::as_str);
    let mut copies: HashMap<&str, String> = HashMap::from([(last, stacked.to_owned())]);
    let mut ids: Vec<usize> = spaces.norm.nodes.iter().chain(&spaces.norm.passed_over).copied().collect();
    ids.sort_unstable();
    for id in ids {
        let original = &graph.node[id];
        if spaces.norm.passed_over.contains(&id) {
            let input = original.input.first().and_then(|name| copies.get(name.as_str())).cloned();
            copies.extend(original.output.first().map(String::as_str).zip(input));
            continue;
        }
        nodes.push(copy(original, "frostline.norm", &mut copies));
    }
    copies.get(spaces.head.input.as_str()).cloned().unwrap_or_else(|| stacked.to_owned())
}

/// Copies a node to apply it to `copies` of its inputs, which are told what it makes.
fn copy<'a>(original: &'a NodeProto, prefix: &str, copies: &mut HashMap<&'a str, String>) -> NodeProto {
    let mut copy = original.clone();
    copy.name = format!("{prefix}/{}", original.name);
    for name in &mut copy.input {
        if let Some(copied) = copies.get(name.as_str()) {
            copied.clone_into(name);
        }
    }
    for (name, original) in copy.output.iter_mut().zip(&original.output).filter(|(name, _)| !name.is_empty()) {
        *name = format!("{prefix}/{original}");
        copies.insert(original, name.clone());
    }
    copy
}

fn cast_to_f32(normed: &str) -> NodeProto {
    node("Cast", &[normed], TRACES, vec![integer("to", DataType::Float as i64)])
}

/// Removes nodes, initializers and inputs that no output depends on.
fn cut(mut graph: GraphProto) -> GraphProto {
    let mut needed: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    let mut kept: Vec<NodeProto> = Vec::new();
    for node in graph.node.into_iter().rev() {
        if node.output.iter().any(|name| needed.contains(name)) {
            needed.extend(reads(&node).into_iter().map(str::to_owned));
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.initializer.retain(|tensor| needed.contains(&tensor.name));
    graph.input.retain(|input| needed.contains(&input.name));
    graph
}

fn value_info(name: &str, dtype: DataType, shape: &[&str]) -> ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |text: &&str| Dimension {
        denotation: String::new(),
        value: Some(text.parse().map_or_else(|_| Value::DimParam((*text).to_owned()), Value::DimValue)),
    };
    let shape = pb::TensorShapeProto { dim: shape.iter().map(dim).collect() };
    let tensor = pb::type_proto::Tensor { elem_type: dtype as i32, shape: Some(shape) };
    let value = Some(pb::type_proto::Value::TensorType(tensor));
    let r#type = Some(pb::TypeProto { denotation: String::new(), value });
    ValueInfoProto { name: name.to_owned(), r#type, doc_string: String::new() }
}
