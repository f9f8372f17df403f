//! Writes a graph in the standard's own operators, and for a pass without a past.
//!
//! ONNX Runtime's optimiser and model builder fuse operators: a residual add with the norm after it, all of attention
//! with its rotary embedding and key-value cache. A latent space that exists inside a fused operator alone cannot be
//! traced, and tract knows few of them. So each is replaced by what it stands for. Planning reads whole rows at once, from
//! their beginning: there is no past, and nothing after a row's end matters to it.

mod attention;
mod branches;
mod norms;
mod past;
mod product;
mod writer;

use tract_onnx::pb::{GraphProto, NodeProto};

use self::writer::Writer;
use crate::onnx::{TOKENS, attribute};

/// What a fused attention says of itself, which cannot be seen in the graph any more.
#[derive(Clone, Debug)]
pub struct FusedAttention {
    /// The tensor that it makes.
    pub output: String,
    /// Heads of queries, and of keys and of values each.
    pub heads: usize,
    pub kv_heads: usize,
    /// What scores are multiplied by; 1/√size where `None`.
    pub scale: Option<f32>,
    /// What scores are bent to stay within.
    pub softcap: Option<f32>,
    /// A query sees itself and the `window − 1` places before it; all places before it where `None`.
    pub window: Option<usize>,
}

/// Replaces fused operators and branches on the past; what is not known stays as it is.
pub fn lower(graph: GraphProto, opset: i64) -> (GraphProto, Vec<FusedAttention>) {
    let mut graph = branches::inline(graph);
    let nodes = std::mem::take(&mut graph.node);
    let types = writer::types(&graph);
    let caches = past::take(&mut graph);
    let ids = graph.input.iter().find(|input| input.name == TOKENS).or(graph.input.first());
    let ids = ids.map(|input| input.name.clone()).unwrap_or_default();
    let mut writer = Writer::new(graph, types, opset);
    past::write_empty(&mut writer, &caches, &ids);
    let attention = nodes.iter().filter_map(attention::described).collect();
    for node in nodes {
        if !replace(&mut writer, &node) {
            writer.keep(node);
        }
    }
    (writer.finish(), attention)
}

/// Writes what a fused node stands for, under the names of its outputs; false where it is none, or one of a kind that
/// is not known.
fn replace(writer: &mut Writer, node: &NodeProto) -> bool {
    let replaced = match node.op_type.as_str() {
        "SkipLayerNormalization" => norms::skip_layer_norm(writer, node),
        "SkipSimplifiedLayerNormalization" => norms::skip_rms_norm(writer, node),
        "SimplifiedLayerNormalization" => norms::rms_norm(writer, node),
        "Gemm" => product::gemm(writer, node),
        "GroupQueryAttention" => attention::grouped_query(writer, node),
        _ => return false,
    };
    if replaced.is_none() {
        tracing::debug!(node.name, op = node.op_type, "left as it is");
    }
    replaced.is_some()
}

/// What a fused node has that is not written out; `None` where it is written out, or no such node.
pub fn unsupported(node: &NodeProto) -> Option<String> {
    match node.op_type.as_str() {
        "GroupQueryAttention" => attention::unsupported(node),
        _ => None,
    }
}

/// A node's input, if it is given.
fn input(node: &NodeProto, place: usize) -> Option<&str> {
    node.input.get(place).map(String::as_str).filter(|name| !name.is_empty())
}

/// A node's output, if anybody asks for it.
fn output(node: &NodeProto, place: usize) -> Option<&str> {
    node.output.get(place).map(String::as_str).filter(|name| !name.is_empty())
}

fn integer(node: &NodeProto, name: &str, otherwise: i64) -> i64 {
    attribute(node, name).map_or(otherwise, |attribute| attribute.i)
}

fn float(node: &NodeProto, name: &str, otherwise: f32) -> f32 {
    attribute(node, name).map_or(otherwise, |attribute| attribute.f)
}
