//! One constant tensor of an ONNX file: its type, shape and bytes, checked against each other.

use std::borrow::Cow;
use std::path::Path;

use half::{bf16, f16};
use tract_onnx::pb::{TensorProto, tensor_proto::DataType};

use super::external::{ExternalFiles, is_external};
use crate::error::{Error, Result};

/// A tensor's type, shape and bytes (row-major, little-endian).
pub(crate) struct Tensor<'a> {
    pub dtype: DataType,
    pub shape: Vec<usize>,
    /// As many as shape and type call for; empty for strings.
    pub bytes: Cow<'a, [u8]>,
}

/// What a tensor's element type is called.
pub(crate) fn type_name(data_type: i32) -> String {
    match DataType::try_from(data_type) {
        Ok(known) => known.as_str_name().to_lowercase(),
        Err(_) => format!("type {data_type}"),
    }
}

impl<'a> Tensor<'a> {
    /// Looks a tensor's data up and checks that it fits; `model` is for messages.
    pub(crate) fn view(model: &Path, tensor: &'a TensorProto, external: &'a ExternalFiles) -> Result<Tensor<'a>> {
        let bad = |reason: String| Error::Tensor { path: model.into(), tensor: tensor.name.clone(), reason };
        let dtype = DataType::try_from(tensor.data_type)
            .map_err(|_| bad(format!("unknown {}", type_name(tensor.data_type))))?;
        let shape = shape(tensor).map_err(bad)?;
        if dtype == DataType::String {
            return Ok(Tensor { dtype, shape, bytes: Cow::Borrowed(&[]) });
        }
        let expected = byte_length(dtype, &shape).map_err(bad)?;
        let bytes = if is_external(tensor) {
            Cow::Borrowed(external.bytes(model, tensor, expected)?)
        } else if !tensor.raw_data.is_empty() {
            Cow::Borrowed(tensor.raw_data.as_slice())
        } else {
            Cow::Owned(typed_bytes(dtype, tensor))
        };
        match bytes.len() == expected {
            true => Ok(Tensor { dtype, shape, bytes }),
            false => Err(bad(format!(
                "has {} bytes, {shape:?} of {} needs {expected}",
                bytes.len(),
                type_name(tensor.data_type)
            ))),
        }
    }

    /// Whether the elements are floats that [`Tensor::read_f32`] can convert.
    pub(crate) fn is_float(&self) -> bool {
        matches!(self.dtype, DataType::Float | DataType::Float16 | DataType::Bfloat16 | DataType::Double)
    }

    /// Number of elements.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Converts the elements from `start` on; leaves `out` as it is where [`Tensor::is_float`] is false.
    pub(crate) fn read_f32(&self, start: usize, out: &mut [f32]) {
        match self.dtype {
            DataType::Float => fill(&self.bytes, start, out, f32::from_le_bytes),
            DataType::Double => fill(&self.bytes, start, out, |eight| f64::from_le_bytes(eight) as f32),
            DataType::Float16 => fill(&self.bytes, start, out, |two| f16::from_le_bytes(two).to_f32()),
            DataType::Bfloat16 => fill(&self.bytes, start, out, |two| bf16::from_le_bytes(two).to_f32()),
            _ => {}
        }
    }
}

fn fill<const N: usize>(bytes: &[u8], start: usize, out: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
    let (elements, _) = bytes.as_chunks::<N>();
    for (value, element) in out.iter_mut().zip(elements.iter().skip(start)) {
        *value = convert(*element);
    }
}

fn shape(tensor: &TensorProto) -> Result<Vec<usize>, String> {
    let size = |&n: &i64| usize::try_from(n).map_err(|_| format!("has the impossible shape {:?}", tensor.dims));
    tensor.dims.iter().map(size).collect()
}

fn byte_length(dtype: DataType, shape: &[usize]) -> Result<usize, String> {
    let too_large = || format!("its shape {shape:?} is too large");
    let elements = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n)).ok_or_else(too_large)?;
    let bits = bits(dtype).ok_or_else(|| format!("has no element type ({dtype:?})"))?;
    let bits = elements.checked_mul(bits).ok_or_else(too_large)?;
    Ok(bits.div_ceil(8))
}

fn bits(dtype: DataType) -> Option<usize> {
    use DataType::*;
    match dtype {
        Undefined | String => None,
        Uint4 | Int4 | Float4e2m1 => Some(4),
        Uint8 | Int8 | Bool | Float8e4m3fn | Float8e4m3fnuz | Float8e5m2 | Float8e5m2fnuz => Some(8),
        Uint16 | Int16 | Float16 | Bfloat16 => Some(16),
        Float | Int32 | Uint32 => Some(32),
        Double | Int64 | Uint64 | Complex64 => Some(64),
        Complex128 => Some(128),
    }
}

/// Bytes of a tensor that keeps its elements in the fields for its type, narrowed as onnx.proto says.
fn typed_bytes(dtype: DataType, tensor: &TensorProto) -> Vec<u8> {
    use DataType::*;
    match dtype {
        Float | Complex64 => tensor.float_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Double | Complex128 => tensor.double_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Int64 => tensor.int64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Uint64 => tensor.uint64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Uint32 => tensor.uint64_data.iter().flat_map(|&x| (x as u32).to_le_bytes()).collect(),
        Int32 => tensor.int32_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Uint16 | Int16 | Float16 | Bfloat16 => {
            tensor.int32_data.iter().flat_map(|&x| (x as u16).to_le_bytes()).collect()
        }
        _ => tensor.int32_data.iter().map(|&x| x as u8).collect(),
    }
}
