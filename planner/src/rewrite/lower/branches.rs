//! Takes the branch without a past: Optimum merges decoders with and without one as branches of an `If` on
//! `use_cache_branch`.

use std::collections::HashMap;

use tract_onnx::pb::{GraphProto, NodeProto};

use crate::onnx::node::attribute;

/// The input that chooses between the branches.
const USE_CACHE: &str = "use_cache_branch";

/// Replaces each such `If` by its branch without a past, and drops the input once nothing reads it any more.
/// A branch may not use the names of the graph around it, so its own can stay; only its outputs take the names of the
/// `If`'s outputs.
pub(super) fn inline(mut graph: GraphProto) -> GraphProto {
    if !graph.input.iter().any(|input| input.name == USE_CACHE) {
        return graph;
    }
    for node in std::mem::take(&mut graph.node) {
        match without_past(&node) {
            Some(branch) => append(&mut graph, branch.clone(), &node.output),
            None => graph.node.push(node),
        }
    }
    if !graph.node.iter().any(|node| node.input.iter().any(|name| name == USE_CACHE)) {
        graph.input.retain(|input| input.name != USE_CACHE);
    }
    graph
}

fn without_past(node: &NodeProto) -> Option<&GraphProto> {
    let on_past = node.op_type == "If" && node.input.first().is_some_and(|name| name == USE_CACHE);
    let branch = attribute(node, "else_branch").filter(|_| on_past)?;
    branch.g.as_ref().filter(|branch| branch.output.len() == node.output.len())
}

fn append(graph: &mut GraphProto, mut branch: GraphProto, outputs: &[String]) {
    let names: HashMap<String, String> =
        branch.output.iter().map(|output| output.name.clone()).zip(outputs.iter().cloned()).collect();
    for name in branch.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output)) {
        if let Some(outer) = names.get(name) {
            outer.clone_into(name);
        }
    }
    graph.node.append(&mut branch.node);
    graph.initializer.append(&mut branch.initializer);
    graph.sparse_initializer.append(&mut branch.sparse_initializer);
}
