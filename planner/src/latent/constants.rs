//! Which tensors of a graph are constant, and which weight a constant was made from.

use tract_onnx::pb::TensorProto;

use crate::onnx::{Index, reads};

/// Operators that hand their first input on, in another type, shape or order, but with the same numbers.
pub const RESHAPING: [&str; 8] =
    ["Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Dropout", "Transpose"];

/// The weight that a constant tensor was made from, and whether it lies transposed there.
pub struct Weight<'a> {
    pub name: &'a str,
    pub tensor: &'a TensorProto,
    pub transposed: bool,
}

/// Follows a tensor back through casts and transpositions to an initializer or a `Constant` node.
pub fn weight<'a>(index: &Index<'a>, tensor: &'a str) -> Option<Weight<'a>> {
    let mut name = tensor;
    let mut transposed = false;
    loop {
        if let Some(tensor) = index.constant(name) {
            return Some(Weight { name, tensor, transposed });
        }
        let node = index.node(index.producer(name)?);
        match node.op_type.as_str() {
            "Transpose" => transposed = !transposed,
            "Cast" | "Identity" => {}
            _ => return None,
        }
        name = node.input.first()?;
    }
}

/// How far a chain of constants is followed.
const DEPTH: usize = 16;

/// Whether a tensor depends on no input of the graph.
pub fn is_constant(index: &Index, tensor: &str) -> bool {
    constant_within(index, tensor, DEPTH)
}

fn constant_within(index: &Index, tensor: &str, depth: usize) -> bool {
    if index.constant(tensor).is_some() {
        return true;
    }
    let Some(node) = index.producer(tensor).map(|id| index.node(id)) else { return false };
    let inputs = reads(node);
    match inputs.is_empty() {
        true => node.op_type == "Constant",
        false => depth > 0 && inputs.into_iter().all(|name| constant_within(index, name, depth - 1)),
    }
}
