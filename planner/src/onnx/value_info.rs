//! What a graph's inputs and outputs say that they are.

use tract_onnx::pb::{ValueInfoProto, type_proto};

use super::tensor::type_name;

/// The tensor type of an input or output; `None` where it is something else.
pub(crate) fn tensor_type(value: &ValueInfoProto) -> Option<&type_proto::Tensor> {
    let type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    Some(tensor)
}

/// Its element type.
pub(crate) fn element_type(value: &ValueInfoProto) -> Option<i32> {
    tensor_type(value).map(|tensor| tensor.elem_type)
}

/// Type and shape of an input or output as people write them: `int64 [batch, sequence]`.
pub(crate) fn describe(value: &ValueInfoProto) -> String {
    use tract_onnx::pb::tensor_shape_proto::dimension::Value;
    let Some(tensor) = tensor_type(value) else { return "no tensor".into() };
    let dtype = type_name(tensor.elem_type);
    let Some(shape) = &tensor.shape else { return dtype };
    let dims: Vec<String> = shape
        .dim
        .iter()
        .map(|dim| match &dim.value {
            Some(Value::DimValue(size)) => size.to_string(),
            Some(Value::DimParam(name)) => name.clone(),
            None => "?".into(),
        })
        .collect();
    format!("{dtype} [{}]", dims.join(", "))
}
