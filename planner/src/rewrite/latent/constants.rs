//! Which weight a constant tensor of a graph was made from.

use tract_onnx::pb::TensorProto;

use crate::onnx::GraphIndex;

/// Operators that hand their first input on, in another type, shape or order, but with the same numbers.
pub(super) const RESHAPING: [&str; 8] =
    ["Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Dropout", "Transpose"];

/// The weight that a constant tensor was made from, and whether it lies transposed there.
pub(super) struct ConstantWeight<'a> {
    pub name: &'a str,
    pub tensor: &'a TensorProto,
    pub transposed: bool,
}

impl ConstantWeight<'_> {
    /// Rows and columns, if it is a matrix: as it is read, not as it lies.
    pub(super) fn sizes(&self) -> Option<[usize; 2]> {
        let [rows, columns] = self.tensor.dims.as_slice() else { return None };
        let (rows, columns) = (usize::try_from(*rows).ok()?, usize::try_from(*columns).ok()?);
        Some(if self.transposed { [columns, rows] } else { [rows, columns] })
    }
}

/// Follows a tensor back through casts and transpositions to an initializer or a `Constant` node.
pub(super) fn weight<'a>(index: &GraphIndex<'a>, tensor: &'a str) -> Option<ConstantWeight<'a>> {
    let mut name = tensor;
    let mut transposed = false;
    loop {
        if let Some(tensor) = index.constant(name) {
            return Some(ConstantWeight { name, tensor, transposed });
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
