//! What is measured at each step of training.

use serde::{Deserialize, Serialize};

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepMetrics {
    /// From 1.
    pub step: u64,
    /// Mean over the step's targets, before the update, in nats.
    pub loss: f64,
    /// Of this step, by the schedule.
    pub learning_rate: f64,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Tokens of the step, without padding.
    pub tokens: u64,
    /// Tokens that were predicted.
    pub targets: u64,
    /// Layers that this step's rows left untouched, where that differs from step to step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frost_line: Option<usize>,
    /// Wall-clock time of the step.
    pub seconds: f64,
}
