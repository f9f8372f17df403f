//! In what precision an export keeps its weights.

use frostline_schemas::plan::ExportPrecision;
use half::f16;
use tract_onnx::pb::{TensorProto, tensor_proto::DataType};

use crate::error::{Error, Result};
use crate::onnx::OnnxModel;
use crate::onnx::quantised::QuantisedMatrix;

/// Whether any weight is in f16; one in bf16 is an error.
pub(super) fn holds_f16(model: &OnnxModel) -> Result<bool> {
    let holds = |dtype: DataType| {
        let is_weight = |tensor: &TensorProto| tensor.dims.iter().any(|&size| size > 1);
        model.constants().find(|(_, tensor)| tensor.data_type == dtype as i32 && is_weight(tensor))
    };
    match holds(DataType::Bfloat16) {
        Some((name, _)) => Err(Error::Bfloat16 { path: model.path().into(), tensor: name.into() }),
        None => Ok(holds(DataType::Float16).is_some()),
    }
}

/// The coarsest in which any weight is kept; a warning where that is not f32.
pub(super) fn precision(model: &OnnxModel, half: bool, matrices: &[QuantisedMatrix]) -> ExportPrecision {
    let precision = match matrices.iter().map(|matrix| matrix.bits).min() {
        Some(8) => ExportPrecision::Int8,
        Some(4) => ExportPrecision::Int4,
        Some(_) => ExportPrecision::Int2,
        None if half => ExportPrecision::F16,
        None => ExportPrecision::F32,
    };
    let path = model.path().display();
    match precision {
        ExportPrecision::F32 => {}
        ExportPrecision::F16 => {
            tracing::warn!("{path}: the weights are in f16, so deviations carry its rounding; the plan says so");
        }
        _ => tracing::warn!(
            "{path}: weights are quantised to {precision}, so deviations are those of another, coarser model; the plan says so"
        ),
    }
    precision
}

/// A number as an f16 holds it. Exporters differ in what becomes of numbers next to zero, so all those are 0 here.
pub(super) fn in_f16(x: f32) -> f32 {
    let rounded = f16::from_f32(x.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()));
    if rounded.to_bits() & 0x7fff <= 1 { 0.0 } else { rounded.to_f32() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_exporters_do() {
        assert_eq!(in_f16(0.1), f16::from_f32(0.1).to_f32());
        assert_eq!([1e-9, 5.96e-8, -3e-8].map(in_f16), [0.0; 3]);
        assert_eq!(in_f16(1e30), 65504.0);
    }
}
