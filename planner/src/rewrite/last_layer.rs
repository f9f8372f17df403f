//! Finds what of the last layer can be computed at the target positions alone.
//!
//! Attention looks at every token of a row. What follows it, the MLP and its norms, makes of each token's hidden state
//! that token's next one. Of the last latent space only the target positions are looked at, so their rows can be chosen
//! before the MLP and not after it. An operator that is not known to keep tokens apart ends this: the rows are then
//! chosen from what it makes.

use std::collections::{BTreeSet, HashMap};

use tract_onnx::pb::{NodeProto, TensorProto, tensor_proto::DataType};

use crate::onnx::GraphIndex;
use crate::onnx::node::{attribute, integer};

/// The nodes that make the last latent space of tensors whose rows can be chosen.
#[derive(Debug, Default)]
pub(super) struct Tail<'a> {
    /// Tensors [batch, sequence, hidden]; the last latent space itself where nothing can be computed after the choice.
    pub starts: BTreeSet<&'a str>,
    /// Indices of nodes, in order.
    pub nodes: Vec<usize>,
}

/// What is known of a tensor.
#[derive(Clone, Copy, PartialEq)]
enum TensorKind {
    /// The residual stream, [batch, sequence, hidden].
    Stream,
    /// [batch, sequence, anything], each token's numbers made of the stream's at that token.
    Rows,
    /// Depends on no input. `flat` where no dimension but the last is larger than 1, so that it is the same for each token.
    Constant { rank: usize, flat: bool },
}

impl TensorKind {
    fn is_constant(self) -> bool {
        matches!(self, TensorKind::Constant { .. })
    }

    fn is_flat(self) -> bool {
        matches!(self, TensorKind::Constant { flat: true, .. })
    }
}

/// Operators that treat each number on its own.
const ELEMENTWISE: [&str; 24] = [
    "Abs",
    "Add",
    "BiasGelu",
    "Cast",
    "Clip",
    "Div",
    "Erf",
    "Exp",
    "FastGelu",
    "Gelu",
    "Identity",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Pow",
    "QuickGelu",
    "Reciprocal",
    "Relu",
    "Sigmoid",
    "Sqrt",
    "Sub",
    "Swish",
    "Tanh",
];

/// The tail of the layer before the last of these latent spaces, of which there are at least two.
pub(super) fn tail<'a>(index: &GraphIndex<'a>, spaces: &'a [String]) -> Tail<'a> {
    let [.., before, last] = spaces else { return Tail::default() };
    let kinds = kinds(index, before);
    let made = |name: &str| kinds.get(name) == Some(&TensorKind::Rows);
    let mut wanted = BTreeSet::from([last.as_str()]);
    let mut nodes = Vec::new();
    for (id, node) in index.graph.node.iter().enumerate().rev() {
        if node.output.iter().any(|name| wanted.contains(name.as_str()) && made(name)) {
            let constant = |name: &str| kinds.get(name).is_some_and(|kind| kind.is_constant());
            wanted.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty() && !constant(name)));
            nodes.push(id);
        }
    }
    nodes.reverse();
    wanted.retain(|name| !made(name));
    Tail { starts: wanted, nodes }
}

fn kinds<'a>(index: &GraphIndex<'a>, stream: &'a str) -> HashMap<&'a str, TensorKind> {
    let weights = index.graph.initializer.iter();
    let mut kinds: HashMap<&str, TensorKind> = weights.map(|tensor| (tensor.name.as_str(), constant(tensor))).collect();
    kinds.insert(stream, TensorKind::Stream);
    for node in &index.graph.node {
        let outputs = if node.op_type == "Split" { node.output.len() } else { 1 };
        if let Some(kind) = kind(index, node, &kinds) {
            for name in node.output.iter().take(outputs) {
                kinds.entry(name).or_insert(kind);
            }
        }
    }
    kinds
}

fn constant(tensor: &TensorProto) -> TensorKind {
    let outer = tensor.dims.split_last().map_or(&[][..], |(_, outer)| outer);
    TensorKind::Constant { rank: tensor.dims.len(), flat: outer.iter().all(|&size| size == 1) }
}

/// What a node's first output is (a `Split`'s outputs all are), where it is known.
fn kind(index: &GraphIndex, node: &NodeProto, kinds: &HashMap<&str, TensorKind>) -> Option<TensorKind> {
    if !["", "ai.onnx", "com.microsoft"].contains(&node.domain.as_str()) {
        return None;
    }
    let op = node.op_type.as_str();
    if op == "Constant" {
        return index.constant(node.output.first()?).map(constant);
    }
    let inputs = node.input.iter().filter(|name| !name.is_empty());
    let inputs: Vec<Option<TensorKind>> = inputs.map(|name| kinds.get(name.as_str()).copied()).collect();
    // What attention made is added to the stream, which keeps its shape.
    if op == "Add" && node.input.iter().any(|name| is_stream(index, name, kinds)) && inputs.contains(&None) {
        return Some(TensorKind::Stream);
    }
    let inputs = inputs.into_iter().collect::<Option<Vec<TensorKind>>>()?;
    let (&first, others) = inputs.split_first()?;
    let constants = others.iter().all(|kind| kind.is_constant());
    let keeps_tokens_apart = match (op, first) {
        _ if ELEMENTWISE.contains(&op) => return elementwise(&inputs),
        ("Transpose" | "DequantizeLinear", TensorKind::Constant { rank, .. }) => {
            return Some(TensorKind::Constant { rank, flat: rank <= 1 });
        }
        (_, TensorKind::Constant { .. }) => false,
        ("MatMul", _) => matches!(others, [TensorKind::Constant { rank: 2, .. }]),
        ("MatMulNBits", _) => constants,
        ("LayerNormalization" | "SimplifiedLayerNormalization" | "RMSNormalization", _) => {
            others.iter().all(|kind| kind.is_flat()) && is_last(integer(node, "axis", -1))
        }
        ("Split", _) => constants && is_last(integer(node, "axis", 0)),
        ("Slice", _) => constants && node.input.get(3).is_some_and(|axes| are_last(&integers(index, axes))),
        ("ReduceMean" | "ReduceSum" | "ReduceSumSquare" | "ReduceL2", _) => constants && reduces_last(index, node),
        _ => false,
    };
    keeps_tokens_apart.then_some(TensorKind::Rows)
}

/// Whether a tensor is the stream, perhaps in another type.
fn is_stream(index: &GraphIndex, tensor: &str, kinds: &HashMap<&str, TensorKind>) -> bool {
    let known = |name: &str| kinds.get(name) == Some(&TensorKind::Stream);
    let cast = |node: &NodeProto| node.op_type == "Cast" && node.input.first().is_some_and(|name| known(name));
    known(tensor) || index.producer(tensor).is_some_and(|id| cast(index.node(id)))
}

/// What operands broadcast to each other make.
fn elementwise(inputs: &[TensorKind]) -> Option<TensorKind> {
    let (mut rank, mut flat) = (0, true);
    for kind in inputs {
        if let TensorKind::Constant { rank: own, flat: is_flat } = *kind {
            (rank, flat) = (rank.max(own), flat && is_flat);
        }
    }
    if inputs.iter().all(|kind| kind.is_constant()) {
        return Some(TensorKind::Constant { rank, flat });
    }
    (flat && rank <= 3).then_some(TensorKind::Rows)
}

/// Whether an axis of [batch, sequence, anything] is the last.
fn is_last(axis: i64) -> bool {
    axis == -1 || axis == 2
}

fn are_last(axes: &[i64]) -> bool {
    !axes.is_empty() && axes.iter().copied().all(is_last)
}

fn reduces_last(index: &GraphIndex, node: &NodeProto) -> bool {
    let axes = match (attribute(node, "axes"), node.input.get(1)) {
        (Some(axes), _) => axes.ints.clone(),
        (None, Some(axes)) => integers(index, axes),
        (None, None) => Vec::new(),
    };
    are_last(&axes) && integer(node, "keepdims", 1) != 0
}

/// The numbers of a constant of i64; none where it is something else.
fn integers(index: &GraphIndex, tensor: &str) -> Vec<i64> {
    let Some(tensor) = index.constant(tensor).filter(|tensor| tensor.data_type == DataType::Int64 as i32) else {
        return Vec::new();
    };
    let raw = tensor.raw_data.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes));
    raw.chain(tensor.int64_data.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::{AttributeProto, GraphProto};

    use super::*;
    use crate::onnx::build::{integer, integers as whole_numbers, node};

    /// How many nodes are found where `op` makes of the stream after attention what is added to it.
    fn copied(op: &str, operands: &[&str], attributes: Vec<AttributeProto>) -> usize {
        let sizes: [(&str, &[i64]); 4] =
            [("matrix", &[4, 4]), ("experts", &[3, 4, 4]), ("bias", &[4]), ("positions", &[1, 7, 4])];
        let weight =
            |(name, dims): (&str, &[i64])| TensorProto { name: name.into(), dims: dims.to_vec(), ..Default::default() };
        let inputs = [&["middle"], operands].concat();
        let graph = GraphProto {
            initializer: sizes.map(weight).to_vec(),
            node: vec![
                node("Add", &["before", "attention"], "middle", Vec::new()),
                node(op, &inputs, "mlp", attributes),
                node("Add", &["middle", "mlp"], "last", Vec::new()),
            ],
            ..Default::default()
        };
        let spaces = ["before".to_owned(), "last".to_owned()];
        let tail = tail(&GraphIndex::new(&graph), &spaces);
        let expected = if tail.nodes.is_empty() { "last" } else { "middle" };
        assert_eq!(tail.starts, BTreeSet::from([expected]));
        tail.nodes.len()
    }

    #[test]
    fn what_keeps_tokens_apart_is_copied() {
        assert_eq!(copied("MatMul", &["matrix"], Vec::new()), 2);
        assert_eq!(copied("Mul", &["bias"], Vec::new()), 2);
        assert_eq!(copied("Tanh", &[], Vec::new()), 2);
        assert_eq!(copied("ReduceMean", &[], vec![whole_numbers("axes", &[-1])]), 2);
        assert_eq!(copied("LayerNormalization", &["bias"], vec![integer("axis", 2)]), 2);
    }

    #[test]
    fn what_mixes_tokens_or_is_not_known_ends_the_search() {
        assert_eq!(copied("MatMul", &["experts"], Vec::new()), 0);
        assert_eq!(copied("Mul", &["positions"], Vec::new()), 0);
        assert_eq!(copied("CumSum", &["bias"], Vec::new()), 0);
        assert_eq!(copied("ReduceMean", &[], vec![whole_numbers("axes", &[1])]), 0);
        assert_eq!(copied("ReduceMean", &[], vec![whole_numbers("axes", &[-1]), integer("keepdims", 0)]), 0);
        assert_eq!(copied("LayerNormalization", &["bias"], vec![integer("axis", 1)]), 0);
        assert_eq!(copied("Mul", &["attention"], Vec::new()), 0);
    }
}
