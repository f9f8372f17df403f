//! Trains a language model by a freeze plan: plan and memory-mapped safetensors in, trained tensors out.
//!
//! What lies below the frost line is computed forward alone, and once for each row where a [cache](cache::CacheSettings)
//! is given; what lies above is trained with this crate's own backward. A [`Job`](run::Job) goes from files to a run folder;
//! a [`Hook`](train::Hook) sees every step.
//!
//! ```
//! use std::path::Path;
//!
//! use frostline_runtime::model::Scope;
//! use frostline_runtime::train::{Summary, TrainSettings, train};
//! use frostline_schemas::data::{self, Encoder, RowSettings};
//! use frostline_schemas::model::ModelFolder;
//! use frostline_schemas::run::TrainingSettings;
//!
//! let quickstart = Path::new("../examples/quickstart");
//! let model = ModelFolder::open(quickstart)?;
//! let encoder = Encoder::new(quickstart);
//! let (data, settings) = (quickstart.join("train.jsonl"), RowSettings::up_to(64));
//! let rows = data::read_examples(&model.config, &encoder, &data, &settings)?.examples;
//! let identity = model.identity()?;
//! // What a plan with its frost line at the last layer names; `Scope::of_plan` reads it from a plan.
//! let scope = Scope::above(&model.config, model.config.layers.len() - 1)?;
//!
//! let settings = TrainSettings::new(TrainingSettings { learning_rate: 1e-3, ..TrainingSettings::of_steps(30) });
//! let mut summary = Summary::default();
//! let trained = train(model, &identity, scope, &rows, &settings, &mut summary)?;
//! assert!(trained.model.parameters().trained().count() > 0);
//! assert!(summary.last_loss() < summary.first_loss());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! From the ground up; a room imports only from those before it:
//!
//! - [`system`]: device, threads, memory;
//! - [`ops`]: the arithmetic, forward and backward;
//! - [`data`]: rows side by side in batches;
//! - [`model`]: a decoder, its parameters and their gradients;
//! - [`cache`]: states at the frost line, kept between runs;
//! - [`train`], [`evaluate`]: settings, steps, optimiser, hooks; loss and ranking;
//! - [`card`]: what gradients at the starting weights say of each layer;
//! - [`run`]: run folders, and whole trainings from files to folder;
//! - [`compare`]: several plans side by side, each at its own best rate;
//! - [`probe`]: plans by short trainings of several arms.

#![deny(missing_docs)]

pub mod cache;
pub mod card;
pub mod compare;
pub mod data;
mod error;
pub mod evaluate;
pub mod model;
pub mod ops;
pub mod probe;
pub mod run;
pub mod system;
pub mod train;

pub use error::{CoverageGap, Error};
