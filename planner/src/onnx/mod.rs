//! Reads ONNX files: the graph, and the weights that lie beside it.
//!
//! Nothing in a file is trusted. [`Model::parse`] checks that the graph is sorted and defines each name once, that
//! external data lies inside the model's folder, and that every tensor's bytes are there and fit its shape. Data files
//! are memory-mapped, never read whole.

pub mod build;
mod constants;
mod external;
mod graph;
mod model;
pub mod names;
pub mod node;
pub mod quantised;
mod tensor;
pub mod value_info;

pub use tract_onnx::pb;

pub use self::graph::GraphIndex;
pub use self::model::Model;
pub use self::tensor::{Tensor, type_name};
