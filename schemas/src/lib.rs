//! The contract between Frostline's planner and runtime: what both sides must agree on, and nothing else.
//!
//! From the ground up; a room imports only from those before it:
//!
//! - [`digest`], [`canonical`], [`files`], [`guard`], [`device`], [`units`], [`cache`]: content digests, the JSON that is
//!   hashed and the JSON that people diff, files written whole or not at all, other crates' panics as errors, devices by
//!   name, sizes for people, what is kept between runs;
//! - [`model`]: a model folder: what `config.json` describes, its memory-mapped weights, its identity;
//! - [`data`]: rows of a data set to tokens and targets, by the model's own tokenizer and chat template;
//! - [`select`]: which tensors are trained, by which strategy, and what a step then costs;
//! - [`plan`]: the freeze plan, its digests and validation;
//! - [`run`]: what a training run leaves behind.

#![deny(missing_docs)]

pub mod cache;
pub mod canonical;
pub mod data;
pub mod device;
pub mod digest;
pub mod files;
pub mod guard;
pub mod model;
pub mod plan;
pub mod run;
pub mod select;
pub mod units;
