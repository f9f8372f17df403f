//! `Gemm`, which tract does not compile in f16.

use tract_onnx::pb::NodeProto;

use super::writer::Writer;
use crate::onnx::node::{float, input, integer, output};

/// `a b + c`, with b transposed or not, as a product and an add; nothing is scaled and `a` lies as it is.
pub(super) fn gemm(writer: &mut Writer, node: &NodeProto) -> Option<()> {
    let (a, b, to) = (input(node, 0)?, input(node, 1)?, output(node, 0)?);
    if float(node, "alpha", 1.0) != 1.0 || float(node, "beta", 1.0) != 1.0 || integer(node, "transA", 0) != 0 {
        return None;
    }
    let b = match integer(node, "transB", 0) {
        0 => b.to_owned(),
        _ => writer.transpose(b, &[1, 0]),
    };
    match input(node, 2) {
        Some(c) => {
            let product = writer.op("MatMul", &[a, &b], Vec::new());
            writer.op_to("Add", &[&product, c], to, Vec::new());
        }
        None => writer.op_to("MatMul", &[a, &b], to, Vec::new()),
    }
    Some(())
}
