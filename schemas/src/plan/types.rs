//! What a plan holds.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::data::RowsAsRead;
use crate::digest::Digest;
use crate::model::{DecoderConfig, ModelIdentity};
use crate::plan::{GradientCard, LearningRate, PlanMethod, Probes};
use crate::select::{Cost, CostTable};

/// A freeze plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this file's format, raised with each incompatible change.
    pub version: u64,
    /// Counts compatible additions to the version; 0 where it is left out.
    #[serde(default)]
    pub revision: u64,
    /// Digest of what the plan binds and decides; how it is computed stands in the docs of [`plan`](crate::plan).
    pub id: Digest,
    /// The model that the plan was made for.
    pub model: ModelIdentity,
    /// The export that was run; none where the strategy runs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onnx: Option<OnnxIdentity>,
    /// The examples that were run.
    pub data: DataIdentity,
    /// How the decision is made.
    pub method: PlanMethod,
    /// What ran the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineUsed>,
    /// What was decided.
    pub decision: Decision,
    /// The rate to train with; none in plans of revisions before 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<LearningRate>,
    /// The latent spaces as measured, from the embedding output up; none where the strategy measures none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spaces: Vec<SpaceMeasured>,
    /// What gradients say of the layers; none where they were not computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradients: Option<GradientCard>,
    /// What short trainings gave; none where no probes were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
    /// What was added to the Gram matrix's diagonal to invert it; 0 where nothing had to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ridge: Option<f64>,
    /// What a training step costs for every possible frost line.
    pub cost: CostTable,
    /// Names of all tensors to train, from the input up.
    pub tensors: Vec<String>,
    /// Digest of everything above.
    pub checksum: Digest,
}

/// What an ONNX file is, by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnnxIdentity {
    /// Digest of the file and of the external data that it refers to.
    pub digest: Digest,
    /// The program that exported it, as the file says.
    pub producer: String,
    /// Version of the default operator set.
    pub opset: i64,
    /// What the weights were rounded to when they were exported; left out where it is f32.
    #[serde(default, skip_serializing_if = "ExportPrecision::is_f32")]
    pub precision: ExportPrecision,
}

/// The type that an export keeps its weights in, and so computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExportPrecision {
    /// Not rounded.
    #[default]
    F32,
    /// Half precision.
    F16,
    /// Whole numbers of so many bits, in blocks that share a scale.
    Int8,
    /// As `Int8`, of 4 bits.
    Int4,
    /// As `Int8`, of 2 bits.
    Int2,
}

impl fmt::Display for ExportPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExportPrecision::F32 => "f32",
            ExportPrecision::F16 => "f16",
            ExportPrecision::Int8 => "int8",
            ExportPrecision::Int4 => "int4",
            ExportPrecision::Int2 => "int2",
        })
    }
}

impl ExportPrecision {
    fn is_f32(&self) -> bool {
        *self == ExportPrecision::F32
    }
}

/// What the calibration data is, by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataIdentity {
    /// SHA-256 of the file.
    pub file: Digest,
    /// Rows in the file.
    pub rows: u64,
    /// Examples in the sample.
    pub examples: usize,
    /// Seed of the sample.
    pub seed: u64,
    /// Tokens of an example; what goes beyond was cut off.
    pub max_length: usize,
    /// Digest of the sampled examples' tokens and targets.
    pub sample: Digest,
    /// Tokens in the sample.
    pub tokens: u64,
    /// Targets in the sample.
    pub targets: u64,
    /// How rows were read; left out where all of it was left to the rows and the model's folder.
    #[serde(default, skip_serializing_if = "RowsAsRead::is_default")]
    pub rows_as: RowsAsRead,
}

/// What ran the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineUsed {
    /// `tract` or `ort`.
    pub name: String,
    /// The engine's version.
    pub version: String,
    /// `cpu`, or the execution provider that ONNX Runtime used.
    pub provider: String,
}

/// The frost line and what decided it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// How many layers, counted from the input, train nothing. A strategy may freeze layers above them,
    /// too.
    pub frost_line: usize,
    /// What had the last word.
    pub decided_by: DecidedBy,
    /// The frost line before the budget was looked at.
    pub before_budget: usize,
    /// Where each example has a frost line of its own, at or above this one; none where all have this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_example: Option<PerExample>,
    /// How much the frost line that the examples call for depends on which they are; none where it does not come from
    /// examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stability: Option<Stability>,
}

/// What the frost line is on resamples of the examples: as many of them, drawn with repetition (the bootstrap). It is the
/// one within the budget, that of rows without one of their own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stability {
    /// The share of resamples that give the same.
    pub agree: f64,
    /// The 2.5 % quantile of theirs.
    pub low: usize,
    /// The 97.5 % quantile of theirs.
    pub high: usize,
}

impl Stability {
    /// The share of resamples that must agree for a frost line to be stable.
    const AGREEMENT: f64 = 0.95;

    /// Whether more examples would hardly change the frost line: nearly all resamples agree.
    pub fn is_stable(&self) -> bool {
        self.agree >= Stability::AGREEMENT
    }
}

/// Frost lines of examples, which lie beside the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PerExample {
    /// Digest of the examples' digests and frost lines.
    pub digest: Digest,
    /// The frost line of all other rows: what the aggregate gives.
    pub others: usize,
}

/// What had the last word on the frost line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DecidedBy {
    /// The examples' end-of-freezing layers.
    Examples,
    /// The budget raised it.
    Budget,
    /// The strategy, which looks at no examples.
    Strategy,
}

/// One latent space, as measured on the sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpaceMeasured {
    /// 0 is what enters layer 1; i is the residual stream after layer i.
    pub space: usize,
    /// Mean over the examples of their deviation: the mean transition trace.
    pub deviation: f64,
    /// Standard deviation over the examples.
    pub spread: f64,
    /// Gain of layer `space` on the mean trace; none for space 0.
    pub gain: Option<f64>,
    /// Examples whose end-of-freezing layer this is.
    pub ends_here: usize,
    /// ν, how much states vary within classes against between them (Xie et al. 2022, arXiv 2210.10041): trace(Σ_w Σ_b†) over
    /// the number of classes, each class counted alike. A class is a completion that at least two examples have. A state is
    /// the one after the final norm at an example's first target. None where completions are no labels, and where the
    /// classes' means are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variability: Option<f64>,
    /// 1 − linear CKA (Kornblith et al. 2019, arXiv 1905.00414) of this space's states and those of the space below: how
    /// much of what tells examples apart the layer between them changes, in [0, 1]. None for space 0, and where states are
    /// the same for all examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cka_distance: Option<f64>,
}

impl Plan {
    /// Parameters that the plan leaves to train, as its table of costs counts them.
    pub fn trained_parameters(&self) -> u64 {
        // Reading has checked that the table holds the frost line; 0 is for a plan put together by hand.
        self.planned_cost().map_or(0, |cost| cost.trained_parameters)
    }

    /// The same plan with what gradients say beside what decided it.
    pub fn with_gradients(self, card: GradientCard) -> Plan {
        let mut plan = Plan { gradients: Some(card), ..self };
        plan.seal();
        plan
    }

    /// The learning rates to train with: the plan's own or, of a plan that has none, those of the rule.
    pub fn learning_rates(&self, config: &DecoderConfig) -> LearningRate {
        self.learning_rate.unwrap_or_else(|| LearningRate::by_rule(config, &self.tensors))
    }

    /// What a step of the plan costs.
    pub fn planned_cost(&self) -> Option<&Cost> {
        self.cost.of_plan(self.decision.frost_line)
    }
}

/// The JSON Schema of the plan file, as it lies in `schemas/plan.schema.json`.
pub fn json_schema() -> schemars::Schema {
    schemars::schema_for!(Plan)
}
