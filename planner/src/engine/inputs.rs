//! What the inputs of a graph are fed.

use tract_onnx::pb::{ValueInfoProto, tensor_proto::DataType};

use crate::batch::{BatchShape, PaddedBatch};
use crate::error::{Error, Result};
use crate::onnx::OnnxModel;
use crate::onnx::names::{ATTENTION_MASK, POSITION_IDS};
use crate::onnx::value_info::{describe, element_type};
use crate::rewrite::lower;
use crate::rewrite::trace_outputs::TARGET_POSITIONS;

/// What an input of the graph is fed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputRole {
    /// Token ids [rows, length].
    InputIds,
    /// [rows, length]: 1 for tokens, 0 for padding.
    AttentionMask,
    /// [rows, length]: 0, 1, 2 …
    PositionIds,
    /// [positions, 2].
    TargetPositions,
}

/// An input of the graph.
#[derive(Clone, Debug)]
pub(crate) struct GraphInput {
    pub name: String,
    pub role: InputRole,
    pub dtype: DataType,
}

/// An input's values in the input's own type.
pub(crate) enum InputValues {
    Int64(Vec<i64>),
    Int32(Vec<i32>),
    Float(Vec<f32>),
    Bool(Vec<bool>),
}

/// The inputs of an edited graph; `ids` is the one that holds token ids. One that nobody can feed is an error.
pub(crate) fn inputs(model: &OnnxModel, ids: &str) -> Result<Vec<GraphInput>> {
    let constant = |name: &str| model.graph().initializer.iter().any(|tensor| tensor.name == name);
    let fed = model.graph().input.iter().filter(|input| !constant(&input.name));
    fed.map(|input| known(model, input, ids)).collect()
}

fn known(model: &OnnxModel, input: &ValueInfoProto, ids: &str) -> Result<GraphInput> {
    let name = input.name.as_str();
    let role = match name {
        TARGET_POSITIONS => Some(InputRole::TargetPositions),
        ATTENTION_MASK => Some(InputRole::AttentionMask),
        POSITION_IDS => Some(InputRole::PositionIds),
        _ if name == ids => Some(InputRole::InputIds),
        _ => None,
    };
    let dtype = element_type(input).and_then(|dtype| DataType::try_from(dtype).ok());
    let fed = [DataType::Int64, DataType::Int32, DataType::Float, DataType::Bool];
    match (role, dtype.filter(|dtype| fed.contains(dtype))) {
        (Some(role), Some(dtype)) => Ok(GraphInput { name: name.into(), role, dtype }),
        _ => Err(refused(model, input)),
    }
}

/// An input remains where the fused node that reads it could not be lowered; the error then says why.
fn refused(model: &OnnxModel, input: &ValueInfoProto) -> Error {
    let path = model.path().into();
    let readers = model.graph().node.iter().filter(|node| node.input.contains(&input.name));
    match readers.filter_map(|node| Some((node, lower::unsupported(node)?))).next() {
        Some((node, setting)) => Error::Fused { path, node: node.name.clone(), op: node.op_type.clone(), setting },
        None => Error::Input { path, input: input.name.clone(), shape: describe(input) },
    }
}

impl GraphInput {
    /// What this input is fed in a batch: shape and values.
    pub(crate) fn values(&self, shape: BatchShape, batch: &PaddedBatch) -> (Vec<usize>, InputValues) {
        let (dims, values) = match self.role {
            InputRole::TargetPositions => (vec![shape.positions, 2], batch.positions.clone()),
            InputRole::InputIds => (vec![shape.rows, shape.length], batch.tokens.clone()),
            InputRole::AttentionMask => (vec![shape.rows, shape.length], batch.mask.clone()),
            InputRole::PositionIds => {
                let row = 0..shape.length as i64;
                (vec![shape.rows, shape.length], (0..shape.rows).flat_map(|_| row.clone()).collect())
            }
        };
        let values = match self.dtype {
            DataType::Int32 => InputValues::Int32(values.into_iter().map(|x| x as i32).collect()),
            DataType::Float => InputValues::Float(values.into_iter().map(|x| x as f32).collect()),
            DataType::Bool => InputValues::Bool(values.into_iter().map(|x| x != 0).collect()),
            _ => InputValues::Int64(values),
        };
        (dims, values)
    }

    /// The shape of [`GraphInput::values`].
    pub(crate) fn dims(&self, shape: BatchShape) -> [usize; 2] {
        match self.role {
            InputRole::TargetPositions => [shape.positions, 2],
            _ => [shape.rows, shape.length],
        }
    }
}
