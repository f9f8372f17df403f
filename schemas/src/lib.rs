//! The contract between Frostline's planner and runtime: what both sides must agree on, and nothing else.
//!
//! - [`plan`]: the freeze plan, its digest and validation; [`canonical`]: the JSON it is written and hashed in;
//! - [`examples`]: JSONL rows to tokens and targets, by the model's own [`tokens`] and [`chat`] template;
//! - [`config`] and [`decoder`]: what `config.json` says of a model and how its tensors are named;
//! - [`weights`] and [`folder`]: a model folder's memory-mapped safetensors and its identity;
//! - [`strategy`], [`scope`] and [`cost`]: by what rule is chosen what is trained, which tensors that are, and what a
//!   step then costs;
//! - [`depths`]: how deep training reaches for each example, where a plan says so;
//! - [`run`]: what a training run leaves behind;
//! - [`digest`], [`files`], [`cache_folder`] and [`device`]: content digests, files written whole or not at all, where
//!   caches are, devices by name.

pub mod cache_folder;
pub mod canonical;
pub mod chat;
pub mod config;
pub mod cost;
pub mod decoder;
pub mod depths;
pub mod device;
pub mod digest;
pub mod examples;
pub mod files;
pub mod folder;
pub mod plan;
pub mod run;
pub mod scope;
pub mod strategy;
pub mod tokens;
pub mod weights;
