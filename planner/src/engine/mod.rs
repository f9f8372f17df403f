//! What runs a graph that [`surgery`](crate::rewrite::trace_outputs) has edited: tokens in, transition traces out.

pub mod ort;
pub mod ort_library;
pub mod tract;

use tract_onnx::pb::{ValueInfoProto, tensor_proto::DataType};

use crate::error::{Error, Result};
use crate::onnx::{MASK, Model, PLACES, build, type_name};
use crate::rewrite::lower;
use crate::rewrite::trace_outputs::POSITIONS;

/// The sizes that an engine compiles a graph for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape {
    /// Sequences in a batch.
    pub rows: usize,
    /// Tokens in a row, padding included.
    pub length: usize,
    /// Positions whose traces are wanted, padding included.
    pub positions: usize,
}

/// One batch, padded to its shape.
#[derive(Clone, Debug)]
pub struct Batch {
    /// [rows, length]; padding on the right.
    pub tokens: Vec<i64>,
    /// [rows, length]; 1 for tokens, 0 for padding.
    pub mask: Vec<i64>,
    /// [positions, 2]: row, and place in it.
    pub positions: Vec<i64>,
}

/// The transition traces of a batch.
#[derive(Clone, Debug)]
pub struct Traces {
    /// [spaces, positions, hidden]: each latent space's hidden state after the final norm.
    pub values: Vec<f32>,
    pub spaces: usize,
    pub positions: usize,
    pub hidden: usize,
}

/// Takes the traces of a batch, by the batch's number.
pub type Sink<'a> = dyn FnMut(usize, Traces) -> Result<()> + 'a;

/// Runs an edited graph.
pub trait Engine {
    /// `tract` or `ort`.
    fn name(&self) -> &'static str;

    fn version(&self) -> String;

    /// `cpu` or `cuda`.
    fn provider(&self) -> &'static str;

    /// Runs batches that all have one shape, and hands on their traces in order. What was compiled for the shape is
    /// dropped on return.
    fn run(&mut self, shape: Shape, batches: &[Batch], sink: &mut Sink) -> Result<()>;
}

impl Traces {
    /// Checks an engine's output against the shape it was asked for.
    pub fn new(engine: &'static str, shape: Shape, found: &[usize], values: Vec<f32>) -> Result<Traces> {
        match *found {
            [spaces, positions, hidden]
                if positions == shape.positions && values.len() == spaces * positions * hidden =>
            {
                Ok(Traces { values, spaces, positions, hidden })
            }
            _ => Err(Error::Engine {
                engine,
                reason: format!("traces of shape {found:?} for {} positions", shape.positions),
            }),
        }
    }

    /// One hidden state.
    pub fn hidden_state(&self, space: usize, position: usize) -> &[f32] {
        let start = (space * self.positions + position) * self.hidden;
        &self.values[start..start + self.hidden]
    }
}

/// What an input of the graph is fed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Token ids [rows, length].
    Tokens,
    /// [rows, length]: 1 for tokens, 0 for padding.
    Mask,
    /// [rows, length]: 0, 1, 2 …
    Places,
    /// [positions, 2].
    Positions,
}

/// An input of the graph.
#[derive(Clone, Debug)]
pub struct Input {
    pub name: String,
    pub role: Role,
    pub dtype: DataType,
}

/// An input's values in the type that the graph wants.
pub enum Values {
    Int64(Vec<i64>),
    Int32(Vec<i32>),
    Float(Vec<f32>),
    Bool(Vec<bool>),
}

/// The inputs of an edited graph; `ids` is the one that holds token ids. One that nobody can feed is an error.
pub fn inputs(model: &Model, ids: &str) -> Result<Vec<Input>> {
    let constant = |name: &str| model.graph().initializer.iter().any(|tensor| tensor.name == name);
    let fed = model.graph().input.iter().filter(|input| !constant(&input.name));
    fed.map(|input| known(model, input, ids)).collect()
}

fn known(model: &Model, input: &ValueInfoProto, ids: &str) -> Result<Input> {
    let name = input.name.as_str();
    let role = match name {
        POSITIONS => Some(Role::Positions),
        MASK => Some(Role::Mask),
        PLACES => Some(Role::Places),
        _ if name == ids => Some(Role::Tokens),
        _ => None,
    };
    let dtype = build::element_type(input).and_then(|dtype| DataType::try_from(dtype).ok());
    let fed = [DataType::Int64, DataType::Int32, DataType::Float, DataType::Bool];
    match (role, dtype.filter(|dtype| fed.contains(dtype))) {
        (Some(role), Some(dtype)) => Ok(Input { name: name.into(), role, dtype }),
        _ => Err(refused(model, input)),
    }
}

/// An input stays where the fused node that reads it could not be written out: then that is what to say.
fn refused(model: &Model, input: &ValueInfoProto) -> Error {
    let path = model.path().into();
    let readers = model.graph().node.iter().filter(|node| node.input.contains(&input.name));
    match readers.filter_map(|node| Some((node, lower::unsupported(node)?))).next() {
        Some((node, setting)) => Error::Fused { path, node: node.name.clone(), op: node.op_type.clone(), setting },
        None => Error::Input { path, input: input.name.clone(), shape: describe(input) },
    }
}

/// Type and shape of an input or output as people write them: `int64 [batch, sequence]`.
pub fn describe(value: &ValueInfoProto) -> String {
    use tract_onnx::pb::tensor_shape_proto::dimension::Value;
    let Some(tensor) = build::tensor_type(value) else { return "no tensor".into() };
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

impl Input {
    /// What this input is fed with in a batch: shape and values.
    pub fn values(&self, shape: Shape, batch: &Batch) -> (Vec<usize>, Values) {
        let (dims, values) = match self.role {
            Role::Positions => (vec![shape.positions, 2], batch.positions.clone()),
            Role::Tokens => (vec![shape.rows, shape.length], batch.tokens.clone()),
            Role::Mask => (vec![shape.rows, shape.length], batch.mask.clone()),
            Role::Places => {
                let row = 0..shape.length as i64;
                (vec![shape.rows, shape.length], (0..shape.rows).flat_map(|_| row.clone()).collect())
            }
        };
        let values = match self.dtype {
            DataType::Int32 => Values::Int32(values.into_iter().map(|x| x as i32).collect()),
            DataType::Float => Values::Float(values.into_iter().map(|x| x as f32).collect()),
            DataType::Bool => Values::Bool(values.into_iter().map(|x| x != 0).collect()),
            _ => Values::Int64(values),
        };
        (dims, values)
    }

    /// The shape of [`Input::values`].
    pub fn dims(&self, shape: Shape) -> [usize; 2] {
        match self.role {
            Role::Positions => [shape.positions, 2],
            _ => [shape.rows, shape.length],
        }
    }
}
