//! Freeze plan and memory-mapped safetensors in, trained layers out.

pub mod adapters;
pub mod batches;
pub mod boundary;
pub mod buffers;
pub mod cache;
pub mod decoder;
pub mod device;
pub mod error;
pub mod evaluate;
pub mod gradients;
pub mod job;
pub mod layer;
pub mod merge;
pub mod modules;
pub mod ops;
pub mod optimizer;
pub mod parameters;
mod peft;
pub mod rehearsal;
pub mod run_folder;
pub mod schedule;
pub mod scope;
mod tensor_file;
pub mod train;

pub use error::Error;
