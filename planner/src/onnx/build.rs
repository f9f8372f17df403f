//! Makes nodes, attributes and constants.

use tract_onnx::pb::{self, AttributeProto, NodeProto, TensorProto, tensor_proto::DataType};

/// A node of the standard operator set with one output.
pub(crate) fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        name: format!("{output}.node"),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute,
        ..Default::default()
    }
}

/// An attribute that holds an integer.
pub(crate) fn integer(name: &str, value: i64) -> AttributeProto {
    let r#type = pb::attribute_proto::AttributeType::Int as i32;
    AttributeProto { name: name.to_owned(), r#type, i: value, ..Default::default() }
}

/// An attribute that holds integers.
pub(crate) fn integers(name: &str, values: &[i64]) -> AttributeProto {
    let r#type = pb::attribute_proto::AttributeType::Ints as i32;
    AttributeProto { name: name.to_owned(), r#type, ints: values.to_vec(), ..Default::default() }
}

/// A one-dimensional constant of i64.
pub(crate) fn vector(name: &str, values: &[i64]) -> TensorProto {
    TensorProto { dims: vec![values.len() as i64], ..scalars(name, values) }
}

/// A constant of i64 without dimensions.
pub(crate) fn scalar(name: &str, value: i64) -> TensorProto {
    scalars(name, &[value])
}

/// A constant of f32 without dimensions.
pub(crate) fn float(name: &str, value: f32) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: DataType::Float as i32,
        float_data: vec![value],
        ..Default::default()
    }
}

fn scalars(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: DataType::Int64 as i32,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}
