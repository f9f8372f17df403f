//! Every constant tensor of a model, wherever the message holds it.

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

/// Every constant tensor of a model: initializers and attributes, subgraphs and functions included.
pub(super) fn tensors(model: &ModelProto) -> Vec<&TensorProto> {
    let mut found = Vec::new();
    model.graph.iter().for_each(|graph| graph_tensors(graph, &mut found));
    model.functions.iter().flat_map(|function| &function.node).for_each(|node| node_tensors(node, &mut found));
    found
}

fn graph_tensors<'a>(graph: &'a GraphProto, found: &mut Vec<&'a TensorProto>) {
    found.extend(&graph.initializer);
    graph.node.iter().for_each(|node| node_tensors(node, found));
}

fn node_tensors<'a>(node: &'a NodeProto, found: &mut Vec<&'a TensorProto>) {
    for attribute in &node.attribute {
        found.extend(attribute.t.iter().chain(&attribute.tensors));
        attribute.g.iter().chain(&attribute.graphs).for_each(|graph| graph_tensors(graph, found));
    }
}

/// As [`tensors`], to change them.
pub(super) fn tensors_mut(model: &mut ModelProto, change: &mut impl FnMut(&mut TensorProto)) {
    model.graph.iter_mut().for_each(|graph| graph_tensors_mut(graph, change));
    model.functions.iter_mut().flat_map(|function| &mut function.node).for_each(|node| node_tensors_mut(node, change));
}

fn graph_tensors_mut(graph: &mut GraphProto, change: &mut impl FnMut(&mut TensorProto)) {
    graph.initializer.iter_mut().for_each(&mut *change);
    graph.node.iter_mut().for_each(|node| node_tensors_mut(node, change));
}

fn node_tensors_mut(node: &mut NodeProto, change: &mut impl FnMut(&mut TensorProto)) {
    for attribute in &mut node.attribute {
        attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(&mut *change);
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            graph_tensors_mut(graph, change);
        }
    }
}
