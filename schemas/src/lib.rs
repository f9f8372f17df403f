//! The contract between Frostline's planner and runtime: what both sides must agree on, and nothing else.
//!
//! - [`plan`]: the freeze plan, its canonical form, digest and validation;
//! - [`examples`]: JSONL rows to tokens and targets;
//! - [`config`] and [`decoder`]: what `config.json` says of a model and how its tensors are named;
//! - [`weights`] and [`folder`]: a model folder's memory-mapped safetensors and its identity;
//! - [`cost`]: what a training step costs for every frost line;
//! - [`run`]: what a training run leaves behind.

pub mod config;
pub mod decoder;
pub mod digest;
pub mod files;
pub mod weights;
