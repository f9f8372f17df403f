//! ONNX in, freeze plan out: finds a model's latent spaces, runs it, and decides where to fine-tune.
//!
//! The method is *SALF, re-derived* (arXiv 2406.11753): its full text was not at hand, so its definitions come from its
//! abstract and its companion paper on semantic bases (arXiv 2401.16184), and choices of our own fill the gaps.

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
pub mod salf;
#[cfg(test)]
mod tests;
mod traces;
mod verify;

pub use crate::batch::shard::{NotAShard, SampleShard};
pub use crate::error::{Error, Result, TracesError};
pub use crate::inspect::{ExternalFile, GraphValue, LatentSpace, Layers, WeightMatrix, layers};
pub use crate::plan::decide::Planned;
pub use crate::plan::settings::{EngineChoice, PlanSettings};
pub use crate::plan::{plan, plan_from_traces, trace_shard};
pub use crate::progress::{Progress, Silent, Stage};
pub use crate::traces::file::{Origin, ShardTraces, TraceFormats};
pub use frostline_schemas::plan::{Aggregate, Gain};
pub use frostline_schemas::select::Strategy;
