//! The freeze plan: what to train, why, and what it costs. To training what a lock file is to a build.
//!
//! A plan is JSON, of [`VERSION`] 1. Its [`id`](Plan::id) is the digest of what it binds and decides: model, calibration
//! data, method, frost line, tensors. Measured floats and the engine stay out of it, so the same inputs and the same
//! decision have the same id on every machine. Its [`checksum`](Plan::checksum) covers everything, so an edit shows.
//! [`Plan::seal`] computes both, by a recipe that other languages can follow.

mod check;
mod file;
mod method;
mod per_example;
mod seal;
mod types;

pub use self::file::{PlanError, PlanFilesError, REVISION, VERSION, free_beside};
pub use self::method::{Aggregate, Gain, PlanMethod, UnknownName};
pub use self::per_example::{ExampleFrostLines, ExampleFrostLinesError, beside};
pub use self::types::{
    DataIdentity, DecidedBy, Decision, EngineUsed, ExportPrecision, OnnxIdentity, PerExample, Plan, SpaceMeasured,
    json_schema,
};
