//! Reads ONNX files: the graph, and the weights that lie beside it.
//!
//! Nothing in a file is trusted. [`Model::parse`] checks that the graph is sorted and defines each name once, that
//! external data lies inside the model's folder, and that every tensor's bytes are there and fit its shape. Data files
//! are memory-mapped, never read whole.

pub(crate) mod build;
mod constants;
mod external;
mod graph;
mod model;
pub(crate) mod names;
pub(crate) mod node;
pub(crate) mod quantised;
mod tensor;
pub(crate) mod value_info;

pub(crate) use tract_onnx::pb;

pub(crate) use self::graph::GraphIndex;
pub(crate) use self::model::OnnxModel;
pub(crate) use self::tensor::{Tensor, type_name};
