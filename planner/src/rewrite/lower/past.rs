//! Key-value caches that come in as inputs, `past_key_values.0.key` and the like: made empty inside the graph.

use tract_onnx::pb::{GraphProto, ValueInfoProto, tensor_shape_proto::dimension::Value};

use super::writer::Writer;
use crate::onnx::build;
use crate::onnx::value_info::{element_type, tensor_type};

/// Sizes [batch, heads, past, size] of a cache, those that are numbers.
type CacheSizes = [Option<i64>; 4];

/// Takes the caches with known heads and sizes out of the inputs; each with its element type.
pub(super) fn take(graph: &mut GraphProto) -> Vec<(String, i32, [i64; 2])> {
    let mut taken = Vec::new();
    graph.input.retain(|input| {
        let cache = cache(input);
        taken.extend(cache.map(|(dtype, sizes)| (input.name.clone(), dtype, sizes)));
        cache.is_none()
    });
    taken
}

fn cache(input: &ValueInfoProto) -> Option<(i32, [i64; 2])> {
    let [_, Some(heads), _, Some(size)] = sizes(input)? else { return None };
    Some((element_type(input)?, [heads, size]))
}

fn sizes(input: &ValueInfoProto) -> Option<CacheSizes> {
    if !input.name.starts_with("past") {
        return None;
    }
    let shape = tensor_type(input)?.shape.as_ref()?;
    let size = |value: &Option<Value>| match value {
        Some(Value::DimValue(size)) if *size > 0 => Some(*size),
        _ => None,
    };
    let sizes: Vec<Option<i64>> = shape.dim.iter().map(|dim| size(&dim.value)).collect();
    sizes.try_into().ok()
}

/// Writes the caches as tensors [batch, heads, 0, size]; `ids` is an input [batch, …].
pub(super) fn write_empty(writer: &mut Writer, caches: &[(String, i32, [i64; 2])], ids: &str) {
    for (name, dtype, [heads, size]) in caches {
        let rows = writer.once("rows", |writer, name| {
            let sizes = writer.op("Shape", &[ids], Vec::new());
            let (from, to) = (writer.vector(&[0]), writer.vector(&[1]));
            writer.op_to("Slice", &[&sizes, &from, &to], name, Vec::new());
        });
        let rest = writer.vector(&[*heads, 0, *size]);
        let sizes = writer.op("Concat", &[&rows, &rest], vec![build::integer("axis", 0)]);
        let zeros = writer.op("ConstantOfShape", &[&sizes], Vec::new());
        writer.op_to("Cast", &[&zeros], name, vec![build::integer("to", (*dtype).into())]);
    }
}
