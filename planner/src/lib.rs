//! ONNX in, freeze plan out: finds a model's latent spaces, runs it, and decides where to fine-tune.
//!
//! The method is *SALF, re-derived* (arXiv 2406.11753): its full text was not at hand, so its definitions come from its
//! abstract and its companion paper on semantic bases (arXiv 2401.16184), and choices of our own fill the gaps.
//!
//! [`plan()`] does all of it. Given a model folder with an ONNX export in it, and rows of examples:
//!
//! ```
//! use std::path::Path;
//!
//! use frostline_planner::{PlanSettings, RowSettings, Silent, plan};
//!
//! let quickstart = Path::new("../examples/quickstart");
//! let (model, data) = (quickstart.into(), quickstart.join("train.jsonl"));
//! let settings = PlanSettings { examples: Some(32), rows: RowSettings::up_to(64), ..PlanSettings::new(model, data) };
//! let plan = plan(&settings, &Silent)?.plan;
//!
//! println!("frost line {} of {} layers", plan.decision.frost_line, plan.model.layers);
//! for space in &plan.spaces {
//!     println!("{}: deviation {}, gain {:?}", space.space, space.deviation, space.gain);
//! }
//! # assert_eq!(plan.spaces.len(), plan.model.layers + 1);
//! # Ok::<(), frostline_planner::Error>(())
//! ```
//!
//! Several machines can share the work: each computes the traces of a [`SampleShard`] with [`trace_shard`], and any one
//! makes the plan of them with [`plan_from_traces`]. [`layers`] describes what is found in an export, for people.
//!
//! # Rooms
//!
//! From the ground up; a room imports only from those before it:
//!
//! - `batch`, `error`, `progress`: examples sorted into batches of few shapes and dealt out to shards; what can go wrong;
//!   how far planning has come;
//! - `onnx`: reads a file, and finds one's way in its graph;
//! - `rewrite`: opens an export in the standard's own operators, finds its latent spaces by structure, and makes
//!   the traces its only output;
//! - `verify`: whether the export is the model in the folder;
//! - `engine`: runs the graph, with tract or ONNX Runtime;
//! - `salf`: semantic basis, deviations, gains, frost line and its stability, other signals from hidden states;
//!   `heuristics`: strategies that run no model;
//! - `traces`: the files of shards;
//! - `plan`: from settings to a plan; `inspect`: what [`layers`] finds.

#![deny(missing_docs)]

mod batch;
mod engine;
mod error;
mod heuristics;
mod inspect;
mod onnx;
mod plan;
mod progress;
mod rewrite;
mod salf;
#[cfg(test)]
mod tests;
mod traces;
mod verify;

pub use crate::batch::shard::SampleShard;
pub use crate::error::{Error, Result, TracesError};
pub use crate::inspect::{ExternalFile, GraphValue, LatentSpace, Layers, WeightMatrix, layers};
pub use crate::plan::decide::Planned;
pub use crate::plan::settings::{EngineChoice, PlanSettings};
pub use crate::plan::{plan, plan_from_traces, trace_shard, trace_shard_into};
pub use crate::progress::{Progress, Silent, Stage};
pub use crate::salf::example_traces::ExampleTrace;
pub use crate::traces::file::{ShardTraces, TraceFormats, TracesOrigin};
pub use frostline_schemas::data::RowSettings;
pub use frostline_schemas::plan::{Aggregate, Gain};
pub use frostline_schemas::select::Strategy;
