//! Freeze plan and memory-mapped safetensors in, trained layers out.

pub mod cache;
pub mod compare;
pub mod data;
pub mod error;
pub mod evaluate;
pub mod model;
pub mod ops;
pub mod run;
pub mod system;
pub mod train;

pub use error::Error;
