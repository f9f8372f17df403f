//! Edits a graph so that it computes transition traces instead of logits.
//!
//! Each latent space's rows at the target positions are gathered, stacked, and one copy of the final norm's own nodes is
//! applied to all of them at once. So any norm works unchanged and only [spaces, positions, hidden] leaves the graph.
//! Everything that the traces do not need is cut away: logits, LM head (unless tied), key-value outputs.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{self, GraphProto, NodeProto, TensorProto, ValueInfoProto, tensor_proto::DataType};

use crate::latent::LatentSpaces;
use crate::onnx::build::{integer, node, vector};
use crate::onnx::{Model, reads};

/// The added input: [positions, 2] of i64, each a row of the batch and a place in it.
pub const POSITIONS: &str = "frostline.positions";
/// The only output: [L + 1, positions, hidden] of f32, each latent space's hidden states after the final norm.
pub const TRACES: &str = "frostline.traces";

/// Replaces a model's outputs by its transition traces.
pub fn trace(model: Model, spaces: &LatentSpaces) -> Model {
    let opset = model.opset();
    model.with_graph(|graph| edit(graph, spaces, opset))
}

fn edit(mut graph: GraphProto, spaces: &LatentSpaces, opset: i64) -> GraphProto {
    let mut added = Vec::new();
    let stacked = stack(spaces, &mut added, &mut graph.initializer);
    let normed = copy_norm(&graph, spaces, &stacked, &mut added);
    added.push(cast_to_f32(&normed));
    graph.node.extend(added);
    graph.input.push(value_info(POSITIONS, DataType::Int64, &["positions", "2"]));
    let hidden = spaces.head.hidden.to_string();
    graph.output = vec![value_info(TRACES, DataType::Float, &["spaces", "positions", &hidden])];
    graph.value_info.clear();
    graph.quantization_annotation.clear();
    tracing::debug!(opset, nodes = graph.node.len(), "traces added");
    cut(graph)
}

/// Gathers the positions' rows of each space and stacks them; the tensor's name.
fn stack(spaces: &LatentSpaces, nodes: &mut Vec<NodeProto>, constants: &mut Vec<TensorProto>) -> String {
    let shape = "frostline.row_shape";
    let hidden = i64::try_from(spaces.head.hidden).unwrap_or(-1);
    constants.push(vector(shape, &[1, -1, hidden]));
    let mut rows = Vec::new();
    for (space, tensor) in spaces.spaces.iter().enumerate() {
        let gathered = format!("frostline.gathered.{space}");
        let reshaped = format!("frostline.rows.{space}");
        nodes.push(node("GatherND", &[tensor, POSITIONS], &gathered, Vec::new()));
        nodes.push(node("Reshape", &[&gathered, shape], &reshaped, Vec::new()));
        rows.push(reshaped);
    }
    let stacked = "frostline.stacked".to_owned();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    nodes.push(node("Concat", &rows, &stacked, vec![integer("axis", 0)]));
    stacked
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
        let mut copy = original.clone();
        copy.name = format!("frostline.norm/{}", original.name);
        for name in &mut copy.input {
            if let Some(copied) = copies.get(name.as_str()) {
                copied.clone_into(name);
            }
        }
        for (name, original) in copy.output.iter_mut().zip(&original.output).filter(|(name, _)| !name.is_empty()) {
            *name = format!("frostline.norm/{original}");
            copies.insert(original, name.clone());
        }
        nodes.push(copy);
    }
    copies.get(spaces.head.input.as_str()).cloned().unwrap_or_else(|| stacked.to_owned())
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
