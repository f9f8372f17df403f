//! Finds the LM head: the matrix product that the logits come from.

use tract_onnx::pb::NodeProto;

use super::constants::weight;
use crate::error::{Error, Result};
use crate::onnx::node::integer;
use crate::onnx::quantised::{self, QuantisedMatrix};
use crate::onnx::{GraphIndex, OnnxModel};

/// The LM head.
#[derive(Clone, Debug)]
pub(crate) struct LmHead {
    /// The matrix product.
    pub node: usize,
    /// Its input, [batch, sequence, hidden] after the final norm.
    pub input: String,
    /// The weight's name.
    pub weight: String,
    pub vocabulary: usize,
    pub hidden: usize,
}

/// Operators between the LM head and the logits: soft caps, scales, biases, casts, changes of shape.
const AFTER: [&str; 13] = [
    "Cast",
    "Identity",
    "Mul",
    "Div",
    "Tanh",
    "Add",
    "Sub",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Clip",
    "Where",
];

/// Walks back from the output called `logits`, or else from each output until a head is found.
pub(super) fn find(model: &OnnxModel, index: &GraphIndex) -> Result<LmHead> {
    let outputs: Vec<&str> = model.graph().output.iter().map(|output| output.name.as_str()).collect();
    let named: Vec<&str> = outputs.iter().copied().filter(|name| *name == "logits").collect();
    let candidates = if named.is_empty() { &outputs } else { &named };
    if let Some(head) = candidates.iter().find_map(|output| head_of(index, output)) {
        return Ok(head);
    }
    if let Some(op) = quantised::other_kind(index) {
        return Err(Error::Quantised { path: model.path().into(), op: op.into() });
    }
    let seen: Vec<String> = candidates.iter().take(4).map(|output| index.history(output, 4)).collect();
    let seen = format!("the graph has {} outputs: {}", outputs.len(), seen.join("; "));
    Err(Error::NoLogits { path: model.path().into(), seen })
}

fn head_of(index: &GraphIndex, output: &str) -> Option<LmHead> {
    let mut at = output;
    loop {
        let id = index.producer(at)?;
        let node = index.node(id);
        match node.op_type.as_str() {
            "MatMul" | "Gemm" => return product(index, id, node),
            "MatMulNBits" => return quantised_product(index, id, node),
            op if AFTER.contains(&op) => {
                at = node.input.iter().find(|name| !name.is_empty() && !index.is_constant(name))?
            }
            _ => return None,
        }
    }
}

fn product(index: &GraphIndex, id: usize, node: &NodeProto) -> Option<LmHead> {
    let [input, matrix, ..] = node.input.as_slice() else { return None };
    let weight = weight(index, matrix)?;
    let [rows, columns] = weight.sizes()?;
    let (hidden, vocabulary) = if integer(node, "transB", 0) != 0 { (columns, rows) } else { (rows, columns) };
    Some(LmHead { node: id, input: input.clone(), weight: weight.name.into(), vocabulary, hidden })
}

/// A product with a quantised matrix, whose packed tensor does not say its sizes.
fn quantised_product<'a>(index: &GraphIndex<'a>, id: usize, node: &'a NodeProto) -> Option<LmHead> {
    let matrix = QuantisedMatrix::of(index, node)?;
    let (input, weight) = (node.input.first()?.clone(), matrix.packed.name.clone());
    Some(LmHead { node: id, input, weight, vocabulary: matrix.rows, hidden: matrix.columns })
}
