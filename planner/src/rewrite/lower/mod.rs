//! Writes a graph in the standard's own operators, and for a pass without a past.
//!
//! ONNX Runtime's optimiser and model builder fuse operators: a residual add with the norm after it, all of attention
//! with its rotary embedding and key-value cache. A latent space that exists inside a fused operator alone cannot be
//! traced, and tract knows few of them. So each is replaced by what it stands for. Planning reads whole rows at once, from
//! their beginning: there is no past, and nothing after a row's end matters to it. A further operator is an arm of [`replace`].

pub(crate) mod attention;
mod branches;
mod gemm;
mod norms;
mod past;
mod writer;

use tract_onnx::pb::{GraphProto, NodeProto};

use self::attention::FusedAttention;
use self::writer::Writer;
use crate::onnx::names::INPUT_IDS;

/// Replaces fused operators and branches on the past; what is not known stays as it is.
pub(crate) fn lower(graph: GraphProto, opset: i64) -> (GraphProto, Vec<FusedAttention>) {
    let mut graph = branches::inline(graph);
    let nodes = std::mem::take(&mut graph.node);
    let types = writer::element_types(&graph);
    let caches = past::take(&mut graph);
    let ids = graph.input.iter().find(|input| input.name == INPUT_IDS).or(graph.input.first());
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
        "Gemm" => gemm::gemm(writer, node),
        "GroupQueryAttention" => attention::grouped_query(writer, node),
        _ => return false,
    };
    if replaced.is_none() {
        tracing::debug!(node.name, op = node.op_type, "not lowered");
    }
    replaced.is_some()
}

/// What a fused node has that is not written out; `None` where it is written out, or no such node.
pub(crate) fn unsupported(node: &NodeProto) -> Option<String> {
    match node.op_type.as_str() {
        "GroupQueryAttention" => attention::unsupported(node),
        _ => None,
    }
}
