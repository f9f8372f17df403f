//! Matrices of a few bits for each weight, as ONNX Runtime's `MatMulNBits` and `GatherBlockQuantized` read them.
//!
//! Rows are cut into blocks; a block has one scale, and one zero point if the matrix is asymmetric. A weight is
//! `(q − zero) · scale`, with q packed from the low bits of each byte up. Where nothing else is given, zero is the middle
//! of the range for packed bytes, and 0 for tensors of ONNX's own types of four bits.

use std::borrow::Cow;

use tract_onnx::pb::{NodeProto, TensorProto, tensor_proto::DataType};

use super::graph::GraphIndex;
use super::model::OnnxModel;
use super::node::attribute;
use super::tensor::type_name;
use crate::error::{Error, Result};

/// The largest block that is read, in weights; ONNX Runtime makes them of 16 to 256.
const MAX_BLOCK: usize = 1 << 16;

/// A quantised matrix that a node reads, by what the node says of it.
pub(crate) struct QuantisedMatrix<'a> {
    /// The tensor that holds the packed weights.
    pub packed: &'a TensorProto,
    scales: &'a TensorProto,
    zero_points: Option<&'a TensorProto>,
    pub rows: usize,
    pub columns: usize,
    pub bits: usize,
    /// Weights to a block.
    block: usize,
    coding: Coding,
}

/// What packed bits stand for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    /// Bytes, of which each holds several numbers from 0 up; each row begins a new byte.
    Bytes,
    /// ONNX's uint4: from 0 up, two to a byte wherever rows begin.
    Unsigned,
    /// ONNX's int4: −8 to 7, packed likewise.
    Signed,
}

impl Coding {
    fn of(tensor: &TensorProto) -> Option<Coding> {
        match DataType::try_from(tensor.data_type).ok()? {
            DataType::Uint8 => Some(Coding::Bytes),
            DataType::Uint4 => Some(Coding::Unsigned),
            DataType::Int4 => Some(Coding::Signed),
            _ => None,
        }
    }

    /// The zero point where none is given.
    fn zero(self, bits: usize) -> f32 {
        match self {
            Coding::Bytes => (1 << (bits - 1)) as f32,
            Coding::Unsigned | Coding::Signed => 0.0,
        }
    }

    /// The numbers packed in `bytes` from the `first` on.
    fn unpack(self, bytes: &[u8], first: usize, bits: usize, out: &mut [f32]) {
        let (of_byte, mask) = (8 / bits, u8::MAX >> (8 - bits));
        for (index, value) in (first..).zip(out) {
            let number = (bytes[index / of_byte] >> (index % of_byte * bits)) & mask;
            // The highest bit of a signed number counts down.
            let below = if self == Coding::Signed && number > mask / 2 { f32::from(mask) + 1.0 } else { 0.0 };
            *value = f32::from(number) - below;
        }
    }
}

impl<'a> QuantisedMatrix<'a> {
    /// What a node multiplies with or takes rows from; `None` where that is no such matrix.
    pub(crate) fn of(index: &GraphIndex<'a>, node: &'a NodeProto) -> Option<QuantisedMatrix<'a>> {
        let size = |name: &str, otherwise: usize| {
            attribute(node, name).map_or(Some(otherwise), |attribute| usize::try_from(attribute.i).ok())
        };
        let constant = |input: usize| unshaped(index, node.input.get(input).filter(|name| !name.is_empty())?);
        let (bits, block) = (size("bits", 4)?, size("block_size", 128)?);
        if ![2, 4, 8].contains(&bits) || !(1..=MAX_BLOCK).contains(&block) || block * bits % 8 != 0 {
            return None;
        }
        let (packed, scales, zero_points, rows, columns) = match node.op_type.as_str() {
            "MatMulNBits" => (constant(1)?, constant(2)?, constant(3), size("N", 0)?, size("K", 0)?),
            "GatherBlockQuantized" => {
                let (packed, scales) = (constant(0)?, constant(2)?);
                let elements = packed.dims.iter().try_fold(1, |product: i64, &n| product.checked_mul(n))?;
                let rows = usize::try_from(*packed.dims.first()?).ok()?;
                let of_byte = if Coding::of(packed)? == Coding::Bytes { 8 / bits } else { 1 };
                let columns = usize::try_from(elements).ok()?.checked_div(rows)?.checked_mul(of_byte)?;
                (packed, scales, constant(3), rows, columns)
            }
            _ => return None,
        };
        let coding = Coding::of(packed)?;
        // Rows of the types of four bits that do not end with a byte would run into each other.
        let apart = coding == Coding::Bytes || (bits == 4 && columns % 2 == 0);
        let whole = rows > 0 && columns > 0 && apart;
        whole.then_some(QuantisedMatrix { packed, scales, zero_points, rows, columns, bits, block, coding })
    }

    /// Looks the weights up and checks that there are as many as the sizes call for.
    pub(crate) fn open<'m>(&self, model: &'m OnnxModel) -> Result<Quantised<'m>>
    where
        'a: 'm,
    {
        let bad = |tensor: &TensorProto, reason: String| {
            let (path, tensor) = (model.path().into(), tensor.name.clone());
            Error::Tensor { path, tensor, reason }
        };
        let blocks = self.columns.div_ceil(self.block);
        let expected = |count: Option<usize>| count.ok_or_else(|| bad(self.packed, "its sizes overflow".into()));
        let bytes = expected(self.rows.checked_mul(blocks).and_then(|n| n.checked_mul(self.block * self.bits / 8)))?;
        let packed = model.tensor(self.packed)?.bytes;
        // A last block that is cut short is filled up, but not where rows are gathered.
        let whole =
            expected(self.columns.checked_mul(self.bits).and_then(|bits| self.rows.checked_mul(bits.div_ceil(8))))?;
        if packed.len() != bytes && packed.len() != whole {
            return Err(bad(
                self.packed,
                format!("has {} bytes, {} rows of {} need {bytes}", packed.len(), self.rows, self.columns),
            ));
        }
        let scales = model.tensor(self.scales)?;
        let count = expected(self.rows.checked_mul(blocks))?;
        if scales.elements() != count || !scales.is_float() {
            return Err(bad(
                self.scales,
                format!(
                    "has {} elements, {} rows in {blocks} blocks need {count} floats",
                    scales.elements(),
                    self.rows
                ),
            ));
        }
        let mut factors = vec![0.0; count];
        scales.read_f32(0, &mut factors);
        let zeros = self.zeros(model, blocks, count)?;
        let row_bytes = packed.len().checked_div(self.rows).unwrap_or(0);
        let Self { columns, bits, block, coding, .. } = *self;
        Ok(Quantised { packed, row_bytes, scales: factors, zeros, columns, blocks, bits, block, coding })
    }

    fn zeros(&self, model: &OnnxModel, blocks: usize, count: usize) -> Result<Option<Vec<f32>>> {
        let Some(proto) = self.zero_points else { return Ok(None) };
        let tensor = model.tensor(proto)?;
        let mut zeros = vec![0.0; count];
        if tensor.is_float() && tensor.elements() == count {
            tensor.read_f32(0, &mut zeros);
            return Ok(Some(zeros));
        }
        // Numbers from the beginning of one row to that of the next.
        let stride = match self.coding {
            Coding::Bytes => blocks.next_multiple_of(8 / self.bits),
            Coding::Unsigned | Coding::Signed => blocks,
        };
        let expected = self.rows.saturating_mul(stride).saturating_mul(self.bits).div_ceil(8);
        if tensor.bytes.len() != expected || Coding::of(proto) != Some(self.coding) {
            let (found, kind) = (tensor.bytes.len(), type_name(proto.data_type));
            let reason = format!("has {found} bytes of {kind}, {expected} of the packed weights' type are needed");
            return Err(Error::Tensor { path: model.path().into(), tensor: proto.name.clone(), reason });
        }
        for (row, zeros) in zeros.chunks_exact_mut(blocks.max(1)).enumerate() {
            self.coding.unpack(&tensor.bytes, row * stride, self.bits, zeros);
        }
        Ok(Some(zeros))
    }
}

/// The constant behind changes of shape.
fn unshaped<'a>(index: &GraphIndex<'a>, mut tensor: &'a str) -> Option<&'a TensorProto> {
    loop {
        if let Some(constant) = index.constant(tensor) {
            return Some(constant);
        }
        let node = index.node(index.producer(tensor)?);
        if !["Reshape", "Identity", "Flatten"].contains(&node.op_type.as_str()) {
            return None;
        }
        tensor = node.input.first()?;
    }
}

/// A quantised matrix whose weights are there.
pub(crate) struct Quantised<'a> {
    packed: Cow<'a, [u8]>,
    row_bytes: usize,
    scales: Vec<f32>,
    zeros: Option<Vec<f32>>,
    columns: usize,
    blocks: usize,
    bits: usize,
    block: usize,
    coding: Coding,
}

impl Quantised<'_> {
    /// The distance of neighbouring values over the range of all: 2^−bits.
    pub(crate) fn step(&self) -> f64 {
        0.5f64.powi(self.bits as i32)
    }

    /// The weights of a row; `out` has as many elements as there are columns.
    pub(crate) fn read_row(&self, row: usize, out: &mut [f32]) {
        self.coding.unpack(&self.packed[row * self.row_bytes..], 0, self.bits, &mut out[..self.columns]);
        let otherwise = self.coding.zero(self.bits);
        for (number, values) in out.chunks_mut(self.block).enumerate() {
            let at = row * self.blocks + number;
            let zero = self.zeros.as_ref().map_or(otherwise, |zeros| zeros[at]);
            values.iter_mut().for_each(|value| *value = (*value - zero) * self.scales[at]);
        }
    }
}

/// Operators of other ways to quantise, whose weights cannot be compared with a folder's.
const OTHERS: [&str; 7] = [
    "MatMulInteger",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "QLinearMatMul",
    "QGemm",
    "MatMulBnb4",
    "MatMulFpQ4",
];

/// The first operator of a graph that multiplies with weights quantised in another way.
pub(crate) fn other_kind<'a>(index: &GraphIndex<'a>) -> Option<&'a str> {
    index.graph.node.iter().map(|node| node.op_type.as_str()).find(|op| OTHERS.contains(op))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(coding: Coding, bytes: &[u8], first: usize, bits: usize, count: usize) -> Vec<f32> {
        let mut out = vec![0.0; count];
        coding.unpack(bytes, first, bits, &mut out);
        out
    }

    #[test]
    fn packed_numbers_are_read_from_the_low_bits_up() {
        assert_eq!(unpacked(Coding::Bytes, &[0x1f, 0x80], 0, 4, 4), [15.0, 1.0, 0.0, 8.0]);
        assert_eq!(unpacked(Coding::Bytes, &[0b11_10_01_00], 0, 2, 4), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(unpacked(Coding::Bytes, &[255, 7], 0, 8, 2), [255.0, 7.0]);
    }

    /// As onnx.proto packs INT4 and UINT4, and ONNX Runtime's `GatherBlockQuantized` reads them: without a zero point
    /// theirs is 0, that of packed bytes 8.
    #[test]
    fn onnx_types_of_four_bits_have_their_own_zero_and_sign() {
        assert_eq!(unpacked(Coding::Signed, &[0x8f, 0x70], 0, 4, 4), [-1.0, -8.0, 0.0, 7.0]);
        assert_eq!(unpacked(Coding::Unsigned, &[0x8f, 0x70], 1, 4, 3), [8.0, 0.0, 7.0]);
        assert_eq!([Coding::Bytes, Coding::Unsigned, Coding::Signed].map(|coding| coding.zero(4)), [8.0, 0.0, 0.0]);
    }
}
