//! The freeze plan: what to train, why, and what it costs. To training what a lock file is to a build.
//!
//! A plan is JSON, `version` 1. Its [`id`](Plan::id) is the digest of what it binds and decides: model, calibration
//! data, method, frost line, tensors. Measured floats and the engine stay out of it, so the same inputs and the same
//! decision have the same id on every machine. Its [`checksum`](Plan::checksum) covers everything, so an edit shows.

mod per_example;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::canonical;
use crate::digest::Digest;
use crate::files;
use crate::model::DecoderConfig;
use crate::model::ModelIdentity;
use crate::select::Strategy;
use crate::select::scope;
use crate::select::{Cost, CostTable};

pub use self::per_example::{ExampleFrostLines, ExampleFrostLinesError, beside};

/// The version of the plan file that is written, and the newest that is read.
pub const VERSION: u64 = 1;
/// The largest plan read, in bytes: some hundred times that of the largest model.
const MAX_PLAN: u64 = 1 << 26;

/// How far rounding may carry a deviation out of [0, 2].
const SLACK: f64 = 1e-6;

/// A freeze plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this file's format.
    pub version: u64,
    /// Digest of what the plan binds and decides.
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
    /// The latent spaces as measured, from the embedding output up; none where the strategy measures none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spaces: Vec<SpaceMeasured>,
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
    /// Of the file and of the external data that it refers to.
    pub digest: Digest,
    /// The program that exported it, as the file says.
    pub producer: String,
    /// Version of the default operator set.
    pub opset: i64,
    /// What the weights were rounded to when they were exported; left out where it is f32.
    #[serde(default, skip_serializing_if = "ExportPrecision::is_f32")]
    pub precision: ExportPrecision,
}

/// In what the weights of an export are kept, and so in what it computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExportPrecision {
    #[default]
    F32,
    F16,
    /// Whole numbers of so many bits, in blocks that share a scale.
    Int8,
    Int4,
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
    /// Of the sampled examples' tokens and targets.
    pub sample: Digest,
    /// Tokens in the sample.
    pub tokens: u64,
    /// Targets in the sample.
    pub targets: u64,
}

/// How a frost line is decided, with every setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanMethod {
    pub strategy: Strategy,
    /// Where the strategy measures gains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<Gain>,
    /// Where the strategy measures gains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
    /// Layers at the output that are always trained, whatever the gains are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_trainable_layers: Option<usize>,
    /// The share of a full fine-tuning step's FLOPs that a step may cost, in (0, 1].
    pub budget: Option<f64>,
    /// Tensors of the ONNX graph that were named by hand as its latent spaces; none where they were found by structure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent_spaces: Option<Vec<String>>,
}

/// How well a layer reduces the deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Gain {
    /// `ln(d_{i−1} / d_i) / ln((i + 1) / i)`: the local exponent of the scaling law.
    PowerLaw,
    /// `d_{i−1} − d_i`.
    Difference,
}

/// How the examples' end-of-freezing layers become one frost line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Aggregate {
    /// The lower median.
    Median,
    /// The end-of-freezing layer of the mean trace.
    MeanTrace,
    /// The lower quantile `q` in [0, 1].
    Quantile(f64),
}

/// What ran the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineUsed {
    /// `tract` or `ort`.
    pub name: String,
    pub version: String,
    /// `cpu`, or the execution provider that ONNX Runtime used.
    pub provider: String,
}

/// The frost line and what decided it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Layers of which nothing is trained and below which nothing is, counted from the input. A strategy may freeze
    /// layers above it, too.
    pub frost_line: usize,
    pub decided_by: DecidedBy,
    /// The frost line before the budget was looked at.
    pub before_budget: usize,
    /// Where each example has a frost line of its own, at or above this one; none where all have this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_example: Option<PerExample>,
}

/// Frost lines of examples, which lie beside the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PerExample {
    /// Of the examples' digests and frost lines.
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
}

/// A plan that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file is missing, unreadable or cannot be written.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// The file is no JSON, or is cut off.
    #[error("{}: not a plan: {reason}", path.display())]
    NotAPlan { path: PathBuf, reason: String },
    /// The file was written by a newer Frostline.
    #[error("{}: version {found} of the plan file is newer than {VERSION}, the newest that this Frostline reads; update Frostline", path.display())]
    Newer { path: PathBuf, found: u64 },
    /// A field is unknown, missing or of the wrong type.
    #[error("{}: {reason}", path.display())]
    Field { path: PathBuf, reason: String },
    /// The content is not what was written.
    #[error("{}: changed since it was written: `{field}` says {stated}, the content gives {found}; restore the file or plan again", path.display())]
    Changed { path: PathBuf, field: &'static str, stated: Digest, found: Digest },
    /// The parts of the plan contradict each other.
    #[error("{}: contradicts itself: {reason}; plan again", path.display())]
    Inconsistent { path: PathBuf, reason: String },
    /// The plan was made for another model.
    #[error("the plan does not fit the model: {}; plan again for this model, or give the model that the plan was made for", .0.join("; "))]
    Misfit(Vec<String>),
}

impl Plan {
    /// Sets `id` and `checksum` from the rest.
    pub fn seal(&mut self) {
        self.id = self.derive_id();
        self.checksum = self.derive_checksum();
    }

    fn derive_id(&self) -> Digest {
        let mut bound = json!({
            "version": self.version,
            "model": self.model,
            "data": self.data,
            "method": self.method,
            "frost_line": self.decision.frost_line,
            "tensors": self.tensors,
        });
        if let (Some(fields), Some(per_example)) = (bound.as_object_mut(), &self.decision.per_example) {
            fields.insert("per_example".into(), json!(per_example));
        }
        canonical::digest(&bound)
    }

    fn derive_checksum(&self) -> Digest {
        let mut everything = json!(self);
        if let Some(fields) = everything.as_object_mut() {
            fields.remove("checksum");
        }
        canonical::digest(&everything)
    }

    /// Reads a plan and checks that it is whole, unchanged and free of contradictions.
    pub fn read(path: &Path) -> Result<Plan, PlanError> {
        let text = files::read_at_most(path, MAX_PLAN).map_err(|source| match source.kind() {
            std::io::ErrorKind::InvalidData => PlanError::NotAPlan { path: path.into(), reason: source.to_string() },
            _ => PlanError::File { path: path.into(), source },
        })?;
        Plan::parse(path, &text)
    }

    /// Parses a plan's text; `path` is for messages.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Plan, PlanError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let not_a_plan =
            |error: serde_json::Error| PlanError::NotAPlan { path: path.into(), reason: error.to_string() };
        let Versioned { version } = serde_json::from_slice(text).map_err(not_a_plan)?;
        if version > VERSION {
            return Err(PlanError::Newer { path: path.into(), found: version });
        }
        let plan: Plan = serde_json::from_slice(text)
            .map_err(|error| PlanError::Field { path: path.into(), reason: error.to_string() })?;
        plan.check_seal(path)?;
        plan.check_consistency().map_err(|reason| PlanError::Inconsistent { path: path.into(), reason })?;
        Ok(plan)
    }

    /// Writes the plan, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), PlanError> {
        let failed = |source| PlanError::File { path: path.into(), source };
        let text = self.to_text().map_err(|error| failed(error.into()))?;
        files::write_bytes(path, text.as_bytes()).map_err(failed)
    }

    /// The file's text.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        canonical::to_text(self)
    }

    /// Parameters that the plan leaves to train, as its table of costs counts them.
    pub fn trained_parameters(&self) -> u64 {
        // Reading has checked that the table holds the frost line; 0 is for a plan put together by hand.
        self.planned_cost().map_or(0, |cost| cost.trained_parameters)
    }

    /// What a step of the plan costs.
    pub fn planned_cost(&self) -> Option<&Cost> {
        self.cost.of_plan(self.decision.frost_line)
    }

    fn check_seal(&self, path: &Path) -> Result<(), PlanError> {
        let seals = [("checksum", self.checksum, self.derive_checksum()), ("id", self.id, self.derive_id())];
        match seals.into_iter().find(|(_, stated, found)| stated != found) {
            Some((field, stated, found)) => Err(PlanError::Changed { path: path.into(), field, stated, found }),
            None => Ok(()),
        }
    }

    fn check_consistency(&self) -> Result<(), String> {
        let layers = self.model.layers;
        let frost_line = self.decision.frost_line;
        if self.version != VERSION {
            return Err(format!("version {} does not exist", self.version));
        }
        if frost_line >= layers {
            return Err(format!("frost line {frost_line} leaves none of {layers} layers to train"));
        }
        if self.tensors.is_empty() {
            return Err("it names no tensor to train".into());
        }
        let others = self.decision.per_example.map_or(frost_line, |examples| examples.others);
        if !(frost_line..layers).contains(&others) {
            return Err(format!("frost line {others} of rows without their own, with {frost_line} of all"));
        }
        let in_order = |numbers: &mut dyn Iterator<Item = usize>, length: usize| numbers.eq(0..length);
        let measured = self.method.strategy == Strategy::Salf;
        if [self.onnx.is_some(), self.engine.is_some(), self.ridge.is_some()].contains(&!measured) {
            return Err(format!("strategy {} and what was run (`onnx`, `engine`, `ridge`)", self.method.strategy));
        }
        if [self.method.gain.is_some(), self.method.aggregate.is_some()].contains(&!measured) {
            return Err(format!("strategy {} and how gains are measured", self.method.strategy));
        }
        if !measured && self.decision.per_example.is_some() {
            return Err(format!("strategy {} and examples with frost lines of their own", self.method.strategy));
        }
        let spaces = if measured { layers + 1 } else { 0 };
        if !in_order(&mut self.spaces.iter().map(|space| space.space), spaces) {
            return Err(format!("`spaces` must list 0 to {layers} where they were measured, and else nothing"));
        }
        if !in_order(&mut self.cost.frost_lines.iter().map(|cost| cost.frost_line), layers) {
            return Err(format!("`cost.frost_lines` must list 0 to {}", layers.saturating_sub(1)));
        }
        self.check_numbers()
    }

    /// Numbers that no plan can have; the seal is no protection from who can make one.
    fn check_numbers(&self) -> Result<(), String> {
        let (layers, method, data) = (self.model.layers, &self.method, &self.data);
        let deviates = |value: f64| (-SLACK..=2.0 + SLACK).contains(&value);
        let ends: usize = self.spaces.iter().fold(0, |sum, space| sum.saturating_add(space.ends_here));
        let possible = [
            ("`budget` is above 0 and at most 1", method.budget.is_none_or(|budget| budget > 0.0 && budget <= 1.0)),
            (
                "`min_trainable_layers` is at least 1 and at most all",
                method.min_trainable_layers.is_none_or(|least| (1..=layers).contains(&least)),
            ),
            ("`max_length` is at least 2", data.max_length >= 2),
            ("`examples` is at least 1", data.examples >= 1),
            ("`before_budget` is a frost line", self.decision.before_budget < layers),
            ("`ridge` is at least 0", self.ridge.is_none_or(|ridge| ridge >= 0.0)),
            ("a deviation is from 0 to 2", self.spaces.iter().all(|space| deviates(space.deviation))),
            ("a spread is from 0 to 2", self.spaces.iter().all(|space| deviates(space.spread))),
            ("each example ends in one space", self.spaces.is_empty() || ends == data.examples),
        ];
        match possible.iter().find(|(_, held)| !held) {
            Some((rule, _)) => Err(format!("{rule}, but not here")),
            None => Ok(()),
        }
    }

    /// Checks that the plan was made for this very model and names the tensors that its frost line calls for.
    pub fn check_model(&self, model: &ModelIdentity, config: &DecoderConfig) -> Result<(), PlanError> {
        let mut misfits = self.model.differences(model);
        if misfits.is_empty() {
            misfits.extend(self.tensor_misfit(config));
        }
        if misfits.is_empty() { Ok(()) } else { Err(PlanError::Misfit(misfits)) }
    }

    fn tensor_misfit(&self, config: &DecoderConfig) -> Option<String> {
        let expected = match self.method.strategy.tensors(config, self.data.seed) {
            Some(Ok(tensors)) => tensors,
            Some(Err(error)) => return Some(error.to_string()),
            None if self.method.strategy == Strategy::Salf => scope::tensors(config, self.decision.frost_line),
            // Which matrices stand out only the weights tell.
            None => scope::ordered(config, |name| self.tensors.iter().any(|tensor| tensor == name)),
        };
        let frost_line = scope::frost_line(config, &expected);
        if self.tensors == expected && self.decision.frost_line == frost_line {
            return None;
        }
        let unknown = self.tensors.iter().find(|name| !expected.contains(name));
        let missing = expected.iter().find(|name| !self.tensors.contains(name));
        let strategy = &self.method.strategy;
        Some(match (unknown, missing) {
            (Some(name), _) => format!("it names tensor `{name}`, which strategy {strategy} does not train here"),
            (None, Some(name)) => format!("it leaves out tensor `{name}`, which strategy {strategy} trains"),
            (None, None) if self.tensors == expected => {
                format!("its frost line is {}, and its tensors begin above {frost_line}", self.decision.frost_line)
            }
            (None, None) => "it names a tensor twice or out of order".into(),
        })
    }
}

impl ModelIdentity {
    /// What differs between the planned model (`self`) and another, for people.
    pub fn differences(&self, other: &ModelIdentity) -> Vec<String> {
        let pairs = [
            ("family", self.family.name().to_string(), other.family.name().to_string()),
            ("layers", self.layers.to_string(), other.layers.to_string()),
            ("hidden size", self.hidden_size.to_string(), other.hidden_size.to_string()),
            ("vocabulary", self.vocabulary.to_string(), other.vocabulary.to_string()),
            ("weights", self.weights.short(), other.weights.short()),
            ("config.json", self.config.short(), other.config.short()),
            ("tokenizer and chat template", short(&self.tokenizer), short(&other.tokenizer)),
        ];
        let different = pairs.into_iter().filter(|(_, planned, found)| planned != found);
        different.map(|(what, planned, found)| format!("{what}: planned for {planned}, found {found}")).collect()
    }
}

fn short(digest: &Option<Digest>) -> String {
    digest.map_or_else(|| "none".into(), |digest| digest.short())
}

impl Gain {
    /// The gain's name as plans and flags spell it.
    pub fn name(self) -> &'static str {
        match self {
            Gain::PowerLaw => "power-law",
            Gain::Difference => "difference",
        }
    }
}

/// Text that names no [`Gain`] or [`Aggregate`].
#[derive(Debug, thiserror::Error)]
#[error("`{found}` is none of {known}")]
pub struct UnknownName {
    found: String,
    known: &'static str,
}

impl FromStr for Gain {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Gain, UnknownName> {
        let gains = [Gain::PowerLaw, Gain::Difference];
        let known = "power-law, difference";
        gains.into_iter().find(|gain| gain.name() == text).ok_or_else(|| UnknownName { found: text.into(), known })
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aggregate::Median => f.write_str("median"),
            Aggregate::MeanTrace => f.write_str("mean-trace"),
            Aggregate::Quantile(q) => write!(f, "quantile:{q}"),
        }
    }
}

impl FromStr for Aggregate {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Aggregate, UnknownName> {
        let unknown = || UnknownName { found: text.into(), known: "median, mean-trace, quantile:Q with Q from 0 to 1" };
        match text {
            "median" => Ok(Aggregate::Median),
            "mean-trace" => Ok(Aggregate::MeanTrace),
            _ => {
                let q = text.strip_prefix("quantile:").and_then(|q| q.parse().ok()).ok_or_else(unknown)?;
                if (0.0..=1.0).contains(&q) { Ok(Aggregate::Quantile(q)) } else { Err(unknown()) }
            }
        }
    }
}

impl TryFrom<String> for Aggregate {
    type Error = UnknownName;

    fn try_from(text: String) -> Result<Aggregate, UnknownName> {
        text.parse()
    }
}

impl From<Aggregate> for String {
    fn from(aggregate: Aggregate) -> String {
        aggregate.to_string()
    }
}

impl schemars::JsonSchema for Aggregate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Aggregate".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(median|mean-trace|quantile:[0-9.]+)$",
            "description": "How the examples' end-of-freezing layers become one frost line."
        })
    }
}

/// The JSON Schema of the plan file, as it lies in `schemas/plan.schema.json`.
pub fn json_schema() -> schemars::Schema {
    schemars::schema_for!(Plan)
}
