//! ONNX in, freeze plan out: finds a model's latent spaces, runs it, and decides where to fine-tune.
//!
//! The method is *SALF, re-derived* (arXiv 2406.11753): its full text was not at hand, so its definitions come from its
//! abstract and its companion paper on semantic bases (arXiv 2401.16184), and choices of our own fill the gaps.
//!
//! [`plan()`](plan::plan) is the way through: [`onnx`] reads the export, [`lowering`] writes fused operators out, [`latent`]
//! finds its latent spaces by structure, [`same_model`] compares its weights with the model folder's, `vocabulary` leaves of
//! its embedding what the sample needs, [`surgery`] makes the traces its only output, an [`engine`] runs it over
//! [`batches`], [`deviation`] holds the hidden states against the semantic [`basis`], and [`gain`] and [`frost_line`]
//! decide. [`layers`] describes what was found in a graph, for people. Machines side by side run a [`shard`] of the sample
//! each, and leave its [`traces`] for the plan to be made of. Strategies that look at no examples plan `by_rule`, one of
//! them by the `spectrum` of the weights.

pub mod batch;
pub mod engine;
pub mod error;
mod heuristics;
pub mod inspect;
pub mod onnx;
pub mod plan;
pub mod progress;
pub mod rewrite;
pub mod salf;
pub mod traces;
pub mod verify;

pub use crate::error::{Error, Result};
pub use crate::inspect::Layers;
pub use frostline_schemas::plan::{Aggregate, Gain};
pub use frostline_schemas::select::Strategy;

pub use crate::plan::{EngineChoice, PlanSettings, Planned, plan, plan_from_traces, trace_shard};
pub use crate::progress::{Progress, Silent, Step};
pub use crate::traces::ShardTraces;
pub use crate::traces::shard::Shard;
