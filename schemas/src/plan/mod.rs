//! The freeze plan: what to train, why, and what it costs. It is to training what a lock file is to a build.
//!
//! A plan is JSON, of [`VERSION`] 1. Its [`id`](Plan::id) is the digest of what it binds and decides: model, calibration
//! data, method, frost line, tensors, learning rate. The engine and what was measured stay out of it, so the same inputs and
//! the same decision have the same id on every machine. Its [`checksum`](Plan::checksum) covers everything, so an edit shows.
//! [`Plan::seal`] computes both.
//!
//! # Id and checksum in other languages
//!
//! Both are the SHA-256 of canonical JSON by RFC 8785, so any language with a library for that can compute them:
//!
//! - the id: of an object with the plan's `version`, `model`, `data`, `method`, `tensors`, its `decision.frost_line` as
//!   `frost_line`, and, where there are any, its `decision.per_example` as `per_example` and its `learning_rate`;
//! - the checksum: of the whole plan without `checksum`, with `revision` 0 where it is left out.
//!
//! ```python
//! import hashlib, json, rfc8785
//!
//! plan = json.load(open("plan.json"))
//! bound = {key: plan[key] for key in ("version", "model", "data", "method", "tensors")}
//! bound["frost_line"] = plan["decision"]["frost_line"]
//! if "per_example" in plan["decision"]:
//!     bound["per_example"] = plan["decision"]["per_example"]
//! if "learning_rate" in plan:
//!     bound["learning_rate"] = plan["learning_rate"]
//! assert plan["id"] == "sha256:" + hashlib.sha256(rfc8785.dumps(bound)).hexdigest()
//! ```
//!
//! RFC 8785 takes every number for a double, so whole numbers beyond 2⁵³ (a seed may be one) are rounded there.

mod check;
mod draft;
mod file;
mod gradients;
mod method;
mod per_example;
mod place;
mod probe;
mod rate;
mod seal;
mod task;
mod types;

pub use self::draft::{Draft, Measurement};
pub use self::file::{PlanError, REVISION, VERSION};
pub use self::gradients::{GradientCard, LayerGradients};
pub use self::method::{Aggregate, Gain, PlanMethod, UnknownName};
pub use self::per_example::{ExampleFrostLines, ExampleFrostLinesError, beside};
pub use self::place::{PlanFilesError, PlanPlace, check_place, free_beside, places_in};
pub use self::probe::{Expected, ProbeMethod, ProbeRule, ProbeTraining, ProbeVerdict, ProbedArm, Probes};
pub use self::rate::{LearningRate, RateOrigin};
pub use self::task::{PlanTask, TaskError};
pub use self::types::{
    DataIdentity, DecidedBy, Decision, EngineUsed, ExportPrecision, OnnxIdentity, PerExample, Plan, SpaceMeasured,
    Stability, json_schema,
};
