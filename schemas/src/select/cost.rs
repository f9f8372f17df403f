//! What a training step costs, for every possible frost line.
//!
//! Matrix FLOPs per token and layer, forward : gradient of inputs : gradient of weights = 1 : 1 : 1, plus attention's
//! quadratic term, whose backward costs twice its forward. A layer below the frost line costs its forward only, and
//! nothing once its output is cached; a frozen layer above a trained one costs its forward and its gradient of inputs.
//! The head costs only at targets: forward and gradient of inputs, and of weights where it is trained.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::model::{DecoderConfig, LayerSpec, Residual, TensorSpec};
use crate::select::scope;

/// Rows of the step that the table is worked out for.
pub const ROWS_PER_STEP: usize = 16;
/// Training computes in f32.
const FLOAT: u64 = 4;
/// AdamW keeps two moments of each parameter.
const MOMENTS: u64 = 2;

/// The cost of every possible frost line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CostTable {
    /// The step that the table is worked out for.
    pub step: StepShape,
    /// From frost line 0 up, where everything above it is trained.
    pub frost_lines: Vec<Cost>,
    /// What the plan costs, where it leaves something above its frost line frozen, or trains embeddings or head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<Cost>,
}

/// The size of a training step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepShape {
    /// Examples of the step.
    pub rows: usize,
    /// Mean over the calibration examples.
    pub tokens_per_row: f64,
    /// Mean over the calibration examples.
    pub targets_per_row: f64,
}

/// What a step costs with one frost line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Layers frozen, counted from the input.
    pub frost_line: usize,
    /// Parameters of all trained tensors.
    pub trained_parameters: u64,
    /// FLOPs of a step.
    pub flops: u64,
    /// FLOPs of a step over those of a step that trains all layers.
    pub share: f64,
    /// FLOPs of a step that reads the state at the frost line from a cache.
    pub cached_flops: u64,
    /// `cached_flops` over those of a step that trains all layers.
    pub cached_share: f64,
    /// Bytes of the f32 weights that a step computes with.
    pub weight_bytes: u64,
    /// The same where the state at the frost line comes from a cache.
    pub cached_weight_bytes: u64,
    /// Bytes of the f32 gradients of what is trained.
    pub gradient_bytes: u64,
    /// Bytes of AdamW's two moments.
    pub optimizer_bytes: u64,
    /// Bytes that the forward pass keeps for the backward pass.
    pub activation_bytes: u64,
}

impl CostTable {
    /// Works out the table. Training layers `F + 1 … L` and the final norm, with embeddings and head frozen.
    pub fn new(config: &DecoderConfig, step: StepShape) -> CostTable {
        let lines = 0..config.layers.len();
        let frost_lines = lines.map(|line| cost(config, step, line, &scope::tensors(config, line))).collect();
        CostTable { step, frost_lines, planned: None }
    }

    /// The table for a plan that trains `tensors`.
    pub fn of_tensors(config: &DecoderConfig, step: StepShape, tensors: &[String]) -> CostTable {
        let frost_line = scope::frost_line(config, tensors);
        let usual = tensors == scope::tensors(config, frost_line);
        let planned = (!usual).then(|| cost(config, step, frost_line, tensors));
        CostTable { planned, ..CostTable::new(config, step) }
    }

    /// The row of a frost line.
    pub fn at(&self, frost_line: usize) -> Option<&Cost> {
        self.frost_lines.get(frost_line)
    }

    /// What the plan with this frost line costs.
    pub fn of_plan(&self, frost_line: usize) -> Option<&Cost> {
        self.planned.as_ref().or_else(|| self.at(frost_line))
    }

    /// Whether a step with this frost line costs at most the share `budget` of a step that trains all layers.
    ///
    /// Decided on the FLOPs, as `share` is rounded: a true share of 0.50004 does not fit 0.5. False for a frost line
    /// that the table does not hold.
    pub fn fits(&self, frost_line: usize, budget: f64) -> bool {
        match (self.at(0), self.at(frost_line)) {
            (Some(full), Some(cost)) => cost.flops as f64 / full.flops as f64 <= budget,
            _ => false,
        }
    }
}

fn cost(config: &DecoderConfig, step: StepShape, frost_line: usize, tensors: &[String]) -> Cost {
    let names: BTreeSet<&str> = tensors.iter().map(String::as_str).collect();
    let is_trained = |spec: &TensorSpec| names.contains(spec.name.as_str());
    let tokens = step.rows as f64 * step.tokens_per_row;
    let (below, suffix) = config.layers.split_at(frost_line);
    let trained: u64 = elements(config.tensors().into_iter().filter(|spec| is_trained(spec)));
    let all: u64 = elements(config.tensors());
    let prefix: u64 = below.iter().map(|layer| elements(layer.tensors())).sum();
    // A tied embedding is still needed as the head; where one is trained, both are read with a cache as without.
    let embeddings = if is_trained(&config.embedding) || config.position_embedding.as_ref().is_some_and(is_trained) {
        0
    } else {
        elements(&config.position_embedding) + if config.tied() { 0 } else { config.embedding.elements() }
    };
    let full = StepCosts::new(config, step).full();
    let flops = step_flops(config, step, frost_line, false, &is_trained);
    let cached_flops = step_flops(config, step, frost_line, true, &is_trained);
    let saved: f64 = suffix.iter().map(|layer| saved_floats(config, layer, step.tokens_per_row)).sum();
    Cost {
        frost_line,
        trained_parameters: trained,
        flops: flops as u64,
        share: rounded(flops / full),
        cached_flops: cached_flops as u64,
        cached_share: rounded(cached_flops / full),
        weight_bytes: FLOAT * all,
        cached_weight_bytes: FLOAT * (all - prefix - embeddings),
        gradient_bytes: FLOAT * trained,
        optimizer_bytes: FLOAT * MOMENTS * trained,
        activation_bytes: (FLOAT as f64 * tokens * saved) as u64,
    }
}

/// FLOPs of one step.
fn step_flops(
    config: &DecoderConfig,
    step: StepShape,
    frost_line: usize,
    cached: bool,
    is_trained: &dyn Fn(&TensorSpec) -> bool,
) -> f64 {
    let tokens = step.rows as f64 * step.tokens_per_row;
    let costs = StepCosts::new(config, step);
    let from_cache = if cached { costs.forward_of(0..frost_line) } else { 0.0 };
    let weights: f64 =
        config.layers.iter().skip(frost_line).map(|layer| tokens * matrix_flops(layer, is_trained)).sum();
    let head_weight = if is_trained(&config.head) { head_weight_flops(config, step) } else { 0.0 };
    costs.reaching(frost_line) - from_cache + weights + head_weight
}

/// FLOPs of a layer in one step.
pub(super) struct LayerCost {
    forward: f64,
    input_gradient: f64,
    /// Where all of its matrices are trained.
    pub weight_gradient: f64,
}

/// FLOPs of one step, by what they are for.
pub(super) struct StepCosts {
    /// Of the head, with the gradient of its inputs.
    head: f64,
    /// From the input up.
    pub layers: Vec<LayerCost>,
}

impl StepCosts {
    pub(super) fn new(config: &DecoderConfig, step: StepShape) -> StepCosts {
        let tokens = step.rows as f64 * step.tokens_per_row;
        let targets = step.rows as f64 * step.targets_per_row;
        let layer = |layer: &LayerSpec| {
            let (matrices, attention) = (matrix_flops(layer, &|_| true), attention_flops(layer, step.tokens_per_row));
            LayerCost {
                forward: tokens * (matrices + attention),
                input_gradient: tokens * (matrices + 2.0 * attention),
                weight_gradient: tokens * matrices,
            }
        };
        StepCosts {
            head: targets * 4.0 * config.head.elements() as f64,
            layers: config.layers.iter().map(layer).collect(),
        }
    }

    /// Of a step that trains all layers.
    pub(super) fn full(&self) -> f64 {
        self.reaching(0) + self.layers.iter().map(|layer| layer.weight_gradient).sum::<f64>()
    }

    /// Of a step that goes back to the layer with this index, without the gradients of weights.
    pub(super) fn reaching(&self, lowest: usize) -> f64 {
        let inputs: f64 = self.layers.iter().skip(lowest).map(|layer| layer.input_gradient).sum();
        self.head + self.forward_of(0..self.layers.len()) + inputs
    }

    fn forward_of(&self, layers: Range<usize>) -> f64 {
        self.layers.get(layers).unwrap_or_default().iter().map(|layer| layer.forward).sum()
    }
}

/// FLOPs of the gradient of the head's weight in one step.
fn head_weight_flops(config: &DecoderConfig, step: StepShape) -> f64 {
    step.rows as f64 * step.targets_per_row * 2.0 * config.head.elements() as f64
}

/// FLOPs of those of a layer's matrices for one token, forward, that are chosen.
fn matrix_flops(layer: &LayerSpec, chosen: &dyn Fn(&TensorSpec) -> bool) -> f64 {
    let linears = layer.linears().filter(|linear| chosen(&linear.weight));
    linears.map(|linear| 2.0 * linear.inputs as f64 * linear.outputs as f64).sum()
}

/// FLOPs of scores and of weighted values for one token among `sequence`, forward.
fn attention_flops(layer: &LayerSpec, sequence: f64) -> f64 {
    4.0 * (layer.attention.heads * layer.attention.head_dim) as f64 * sequence
}

/// Floats that one token of a trained layer keeps for the backward pass.
fn saved_floats(config: &DecoderConfig, layer: &LayerSpec, sequence: f64) -> f64 {
    let attention = &layer.attention;
    let queries = (attention.heads * attention.head_dim) as f64;
    let keys = (attention.kv_heads * attention.head_dim) as f64;
    let hidden = config.hidden as f64;
    let head_norms = if attention.query_norm.is_some() { queries + keys } else { 0.0 };
    // Queries, keys, values, probabilities and their product.
    let attention = 2.0 * queries + 2.0 * keys + head_norms + attention.heads as f64 * sequence;
    let mlp = layer.mlp.intermediate as f64 * if layer.mlp.projection.is_gated() { 3.0 } else { 2.0 };
    // What each branch begins with (one and the same where they lie side by side), and what each norm makes or is given.
    let branches = if layer.residual == Residual::Parallel { 1.0 } else { 2.0 };
    attention + mlp + (branches + layer.norms().count() as f64) * hidden
}

fn elements<'a>(tensors: impl IntoIterator<Item = &'a TensorSpec>) -> u64 {
    tensors.into_iter().map(TensorSpec::elements).sum()
}

/// Rounds to four decimal places: people read and compare shares.
fn rounded(share: f64) -> f64 {
    (share * 1e4).round() / 1e4
}
