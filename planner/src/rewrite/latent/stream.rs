//! Follows the residual stream from the embedding to the LM head.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::NodeProto;

use super::constants::RESHAPING;
use super::embedding::Embedding;
use super::head::LmHead;
use crate::error::{Error, Result};
use crate::onnx::{GraphIndex, OnnxModel};

/// What was found of one decoder layer.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerNodes {
    /// How the exporter calls it (`layers.3`), where the names of its weights or nodes say so.
    pub label: Option<String>,
    /// Nodes between the layer's two latent spaces, in order.
    pub nodes: Vec<usize>,
    /// Residual adds: two if attention and MLP come one after the other, one if they lie side by side.
    pub residual_adds: usize,
}

/// Operators that read a tensor's shape, not its numbers: no data flows through them.
const METADATA: [&str; 3] = ["Shape", "Size", "ConstantOfShape"];

/// The residual stream's tensors, the embedding's output first, and what makes up each layer.
pub(super) fn find(
    model: &OnnxModel,
    index: &GraphIndex,
    embedding: &Embedding,
    head: &LmHead,
) -> Result<(Vec<String>, Vec<LayerNodes>)> {
    let between = Between::new(index, embedding, head);
    let failed = |seen: String| Error::NoLatentSpaces {
        path: model.path().into(),
        seen,
        candidates: candidates(index, embedding, head),
    };
    let chain = between.dominators(index, embedding, head);
    if chain.is_empty() {
        return Err(failed(format!("no path leads from `{}` to {}", embedding.output, index.history(&head.input, 4))));
    }
    let adds = residual_adds(index, &between, &chain);
    let blocks = blocks(index, &between, &adds);
    let layers = group(&blocks);
    let Some(&(first, _)) = layers.first() else {
        let seen = format!(
            "{} residual adds and {} blocks with attention between `{}` and {}",
            adds.len(),
            blocks.iter().filter(|block| block.attention).count(),
            embedding.output,
            index.history(&head.input, 4),
        );
        return Err(failed(seen));
    };
    let mut spaces = vec![adds[first].stream.to_owned()];
    spaces.extend(layers.iter().map(|&(_, last)| adds[last].output.to_owned()));
    let described = layers.iter().map(|&(first, last)| describe(index, &blocks[first..=last])).collect();
    Ok((spaces, described))
}

/// Tensors named in a message.
const CANDIDATES: usize = 12;

/// Tensors that may be latent spaces, for a person to choose from: outputs of residual adds, or else of any addition
/// that every path runs through, or else of any at all.
pub(super) fn candidates(index: &GraphIndex, embedding: &Embedding, head: &LmHead) -> String {
    let between = Between::new(index, embedding, head);
    let chain = between.dominators(index, embedding, head);
    let adds = residual_adds(index, &between, &chain);
    let residual = adds.first().map(|add| add.stream).into_iter().chain(adds.iter().map(|add| add.output));
    let additions = |ids: &mut dyn Iterator<Item = usize>| -> Vec<&str> {
        let nodes = ids.map(|id| index.node(id)).filter(|node| node.op_type == "Add");
        nodes.filter_map(|node| node.output.first()).map(String::as_str).collect()
    };
    let choices =
        [residual.collect(), additions(&mut chain.iter().copied()), additions(&mut (0..index.graph.node.len()))];
    let names = choices.into_iter().find(|names| !names.is_empty()).unwrap_or_default();
    let listed: Vec<String> = names.iter().take(CANDIDATES).map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "the graph adds nothing up, so there is no residual stream".into(),
        all if all > listed.len() => format!("candidates are {} and {} more", listed.join(", "), all - listed.len()),
        _ => format!("candidates are {}", listed.join(", ")),
    }
}

/// The nodes through which data flows from the embedding to the LM head's input, in the graph's order.
struct Between {
    nodes: Vec<usize>,
    members: HashSet<usize>,
}

impl Between {
    fn new(index: &GraphIndex, embedding: &Embedding, head: &LmHead) -> Between {
        let mut reached = HashSet::from([embedding.node]);
        for (id, node) in index.graph.node.iter().enumerate().skip(embedding.node + 1) {
            let from_reached = |name: &str| index.producer(name).is_some_and(|id| reached.contains(&id));
            if !METADATA.contains(&node.op_type.as_str()) && index.reads(id).iter().copied().any(from_reached) {
                reached.insert(id);
            }
        }
        let mut members = HashSet::new();
        let mut open: Vec<usize> = index.producer(&head.input).into_iter().collect();
        while let Some(id) = open.pop() {
            if reached.contains(&id) && members.insert(id) && id != embedding.node {
                open.extend(index.reads(id).iter().filter_map(|name| index.producer(name)));
            }
        }
        let mut nodes: Vec<usize> = members.iter().copied().collect();
        nodes.sort_unstable();
        Between { nodes, members }
    }

    /// The producer of a tensor, if data from the embedding flows into it.
    fn producer(&self, index: &GraphIndex, tensor: &str) -> Option<usize> {
        index.producer(tensor).filter(|id| self.members.contains(id))
    }

    fn predecessors(&self, index: &GraphIndex, id: usize) -> Vec<usize> {
        index.reads(id).iter().filter_map(|name| self.producer(index, name)).collect()
    }

    /// The nodes that every path from the embedding to the head runs through, the embedding first; empty if there is no path.
    ///
    /// The graph is sorted and has no cycles, so one pass finds each node's immediate dominator: the nearest node above
    /// all its predecessors (Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm, 2001).
    fn dominators(&self, index: &GraphIndex, embedding: &Embedding, head: &LmHead) -> Vec<usize> {
        let mut above: HashMap<usize, usize> = HashMap::from([(embedding.node, embedding.node)]);
        for &id in self.nodes.iter().filter(|&&id| id != embedding.node) {
            let common = self.predecessors(index, id).into_iter().reduce(|a, b| nearest_common(&above, a, b));
            if let Some(common) = common {
                above.insert(id, common);
            }
        }
        let mut chain = Vec::new();
        let mut at = self.producer(index, &head.input);
        while let Some(id) = at {
            chain.push(id);
            at = above.get(&id).copied().filter(|&next| next != id);
        }
        chain.reverse();
        if chain.first() == Some(&embedding.node) { chain } else { Vec::new() }
    }
}

/// The nearest node above both; a node's dominator always stands before it in the graph.
fn nearest_common(above: &HashMap<usize, usize>, mut a: usize, mut b: usize) -> usize {
    while a != b {
        let later = if a > b { &mut a } else { &mut b };
        match above.get(later) {
            Some(next) if next != later => *later = *next,
            _ => break,
        }
    }
    a.min(b)
}

/// A node that adds what a block computed to the residual stream.
struct ResidualAdd<'a> {
    node: usize,
    /// The operand that is the stream as it was.
    stream: &'a str,
    /// The stream as it is then.
    output: &'a str,
}

/// The dominators that add two tensors that both depend on the tokens, one of them the stream as it was.
fn residual_adds<'a>(index: &GraphIndex<'a>, between: &Between, chain: &[usize]) -> Vec<ResidualAdd<'a>> {
    let dominators: HashSet<usize> = chain.iter().copied().collect();
    chain.iter().filter_map(|&id| residual_add(index, between, &dominators, id)).collect()
}

fn residual_add<'a>(
    index: &GraphIndex<'a>,
    between: &Between,
    dominators: &HashSet<usize>,
    id: usize,
) -> Option<ResidualAdd<'a>> {
    let node: &'a NodeProto = index.node(id);
    let ([a, b], [output, ..]) = (node.input.as_slice(), node.output.as_slice()) else { return None };
    if node.op_type != "Add" || a == b {
        return None;
    }
    let (from_a, from_b) = (between.producer(index, a)?, between.producer(index, b)?);
    // A block's output is no dominator: the stream runs past it.
    let stream = match (dominators.contains(&from_a), dominators.contains(&from_b)) {
        (true, false) => a,
        (false, true) => b,
        _ => return None,
    };
    let (node, output) = with_bias(index, id, output);
    Some(ResidualAdd { node, stream, output })
}

/// The stream after a bias that is added to it alone, as fused operators do it: that is still the block's.
fn with_bias<'a>(index: &GraphIndex<'a>, add: usize, stream: &'a str) -> (usize, &'a str) {
    let &[next] = index.consumers(stream) else { return (add, stream) };
    let node = index.node(next);
    let biased = node.op_type == "Add" && node.input.iter().any(|name| index.is_constant(name));
    match node.output.first().filter(|_| biased) {
        Some(output) => (next, output),
        None => (add, stream),
    }
}

/// What lies between two residual adds.
struct ResidualBlock {
    nodes: Vec<usize>,
    attention: bool,
}

fn blocks(index: &GraphIndex, between: &Between, adds: &[ResidualAdd]) -> Vec<ResidualBlock> {
    let mut start = 0;
    let block = |add: &ResidualAdd| {
        let members = between.nodes.iter().copied();
        let nodes: Vec<usize> = members.filter(|&id| (start..=add.node).contains(&id)).collect();
        start = add.node + 1;
        ResidualBlock { attention: nodes.iter().any(|&id| is_attention(index, between, id)), nodes }
    };
    adds.iter().map(block).collect()
}

/// Fused attention, or the softmax of attention: its probabilities are multiplied by something that depends on the
/// tokens. (A router's softmax is not.)
fn is_attention(index: &GraphIndex, between: &Between, id: usize) -> bool {
    let node = index.node(id);
    if node.op_type.contains("Attention") {
        return true;
    }
    if node.op_type != "Softmax" {
        return false;
    }
    let dynamic = |id: usize| index.node(id).input.iter().all(|name| between.producer(index, name).is_some());
    let product = |id: usize| matches!(index.node(id).op_type.as_str(), "MatMul" | "Einsum");
    readers(index, id).into_iter().any(|reader| product(reader) && dynamic(reader))
}

/// The nodes that read what a node makes, directly or after a change of shape, a mask or a scale; each once.
fn readers(index: &GraphIndex, id: usize) -> Vec<usize> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut open = vec![id];
    while let Some(id) = open.pop() {
        for &reader in index.node(id).output.iter().flat_map(|name| index.consumers(name)) {
            if seen.insert(reader) {
                found.push(reader);
                let op = index.node(reader).op_type.as_str();
                let hands_on = RESHAPING.contains(&op) || ["Slice", "Where", "Mul"].contains(&op);
                open.extend(hands_on.then_some(reader));
            }
        }
    }
    found
}

/// Layers as (first block, last block): each begins with a block that holds attention and takes those without it that
/// follow. So a layer has two blocks where the MLP comes after attention, one where they lie side by side. What stands
/// before the first attention belongs to the embedding.
fn group(blocks: &[ResidualBlock]) -> Vec<(usize, usize)> {
    let mut layers: Vec<(usize, usize)> = Vec::new();
    for (id, block) in blocks.iter().enumerate() {
        match layers.last_mut() {
            _ if block.attention => layers.push((id, id)),
            Some(layer) => layer.1 = id,
            None => {}
        }
    }
    layers
}

fn describe(index: &GraphIndex, blocks: &[ResidualBlock]) -> LayerNodes {
    let nodes: Vec<usize> = blocks.iter().flat_map(|block| block.nodes.iter().copied()).collect();
    let names = nodes.iter().flat_map(|&id| {
        let node = index.node(id);
        std::iter::once(node.name.as_str())
            .chain(index.reads(id).iter().copied())
            .chain(node.output.iter().map(String::as_str))
    });
    let label = names.into_iter().find_map(label);
    LayerNodes { label, nodes, residual_adds: blocks.len() }
}

/// `layers.3` out of a name such as `model.layers.3.mlp.up_proj.weight`.
fn label(name: &str) -> Option<String> {
    let mut parts = name.split(['.', '/', '_']).peekable();
    while let Some(part) = parts.next() {
        let number = parts.peek().filter(|next| !next.is_empty() && next.bytes().all(|byte| byte.is_ascii_digit()));
        if let (true, Some(number)) = (["layers", "layer", "h", "blocks", "block"].contains(&part), number) {
            return Some(format!("{part}.{number}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::GraphProto;

    use super::*;

    #[test]
    fn names_of_layers_in_the_styles_of_the_exporters() {
        assert_eq!(label("/model/model/layers.3/mlp/act_fn/Mul_output_0").as_deref(), Some("layers.3"));
        assert_eq!(label("model.transformer.h.11.ln_2.weight").as_deref(), Some("h.11"));
        assert_eq!(label("node_linear_12"), None);
    }

    fn node(op: &str, inputs: [String; 2], output: String) -> NodeProto {
        let op_type = op.into();
        NodeProto { op_type, input: inputs.into(), output: vec![output], ..Default::default() }
    }

    /// A chain of 40 diamonds after a node that makes `0`: 2⁴⁰ paths.
    fn diamonds(first: NodeProto) -> GraphProto {
        let mut graph = GraphProto { node: vec![first], ..Default::default() };
        for i in 0..40 {
            let at = |name: &str| format!("{i}{name}");
            graph.node.push(node("Mul", [at(""), at("")], at("a")));
            graph.node.push(node("Slice", [at(""), at("")], at("b")));
            graph.node.push(node("Mul", [at("a"), at("b")], (i + 1).to_string()));
        }
        graph
    }

    #[test]
    fn each_node_is_looked_at_once_however_many_paths_lead_to_it() {
        let softmax = node("Softmax", ["x".into(), "x".into()], "0".into());
        let graph = diamonds(softmax);
        let index = GraphIndex::new(&graph);
        assert_eq!(readers(&index, 0).len(), 120);
        assert!(!index.is_constant("40"));
        let nowhere = Between { nodes: Vec::new(), members: HashSet::new() };
        assert!(!is_attention(&index, &nowhere, 0));

        let constant = NodeProto { op_type: "Constant".into(), output: vec!["0".into()], ..Default::default() };
        assert!(GraphIndex::new(&diamonds(constant)).is_constant("40"));
    }

    #[test]
    fn layers_begin_at_attention() {
        let blocks = |attention: &[bool]| -> Vec<ResidualBlock> {
            attention.iter().map(|&attention| ResidualBlock { nodes: Vec::new(), attention }).collect()
        };
        // Attention, then MLP.
        assert_eq!(group(&blocks(&[true, false, true, false])), [(0, 1), (2, 3)]);
        // Side by side.
        assert_eq!(group(&blocks(&[true, true, true])), [(0, 0), (1, 1), (2, 2)]);
        // Something is added to the embedding first.
        assert_eq!(group(&blocks(&[false, true, false])), [(1, 2)]);
    }
}
