//! How and where to train, and what of it is refused.

use std::path::Path;
use std::sync::Arc;

use frostline_schemas::data::Example;
use frostline_schemas::model::DecoderConfig;
use frostline_schemas::plan::{ExampleFrostLines, Plan};
use frostline_schemas::run::{Order, TrainingSettings};

use crate::cache::CacheSettings;
use crate::data::{MAX_SIZE, check_size};
use crate::error::Error;
use crate::model::ComputePrecision;
use crate::system::Device;

/// How and where to train.
#[derive(Clone, Debug)]
pub struct TrainSettings {
    /// What decides on the trained tensors, and is recorded with them.
    pub training: TrainingSettings,
    /// Where to compute.
    pub device: Device,
    /// What is usual on the device where `None`.
    pub precision: Option<ComputePrecision>,
    /// Whether to keep of each layer its input alone, and compute the rest again.
    pub recompute: bool,
    /// Whether states at the frost line are kept on disk.
    pub cache: Option<CacheSettings>,
    /// Frost lines of examples: batches hold rows of equal frost lines then, and each goes back only as far as its rows
    /// need. `None`: all go back as far as the scope.
    pub frost_lines: Option<FrostLines>,
    /// Threads for the arithmetic; all that the machine has where `None`.
    pub threads: Option<usize>,
}

impl TrainSettings {
    /// On the CPU, on all its cores, without a cache.
    pub fn new(training: TrainingSettings) -> TrainSettings {
        TrainSettings {
            training,
            device: Device::Cpu,
            precision: None,
            recompute: false,
            cache: None,
            frost_lines: None,
            threads: None,
        }
    }
}

/// Frost lines of examples, and of the rows that have none of their own.
#[derive(Clone, Debug)]
pub struct FrostLines {
    /// Those of single rows.
    pub of_examples: Arc<ExampleFrostLines>,
    /// That of all other rows.
    pub of_others: usize,
}

impl FrostLines {
    /// What the plan at `path` says of its examples; `None` where all have one frost line.
    ///
    /// # Errors
    /// [`Error::FrostLines`] where the file beside the plan is missing or another one.
    pub fn of_plan(plan: &Plan, path: &Path) -> Result<Option<FrostLines>, Error> {
        let of_examples = ExampleFrostLines::of_plan(plan, path)?.map(Arc::new);
        let of_others = plan.decision.per_example.map(|examples| examples.others);
        Ok(of_examples.zip(of_others).map(|(of_examples, of_others)| FrostLines { of_examples, of_others }))
    }

    /// That of an example.
    pub fn of(&self, example: &Example) -> usize {
        self.of_examples.of(example).unwrap_or(self.of_others)
    }
}

/// Refuses settings that make no sense, for themselves or with these examples.
///
/// # Errors
/// [`Error::Setting`] with the setting.
pub(crate) fn check(settings: &TrainSettings, examples: &[Example]) -> Result<(), Error> {
    if settings.frost_lines.is_some() && settings.training.order == Order::File {
        let reason = "batches of equal frost lines cannot keep the file's order; leave the order out, or plan one frost line for all";
        return Err(Error::Setting { field: "order", value: "file".into(), reason });
    }
    let settings = &settings.training;
    let none = |field, reason| Err(Error::Setting { field, value: "0".into(), reason });
    if examples.is_empty() {
        return none("examples", "there is nothing to train on");
    }
    if settings.steps == 0 {
        return none("steps", "at least one is needed");
    }
    if settings.batch_size == 0 {
        return none("batch_size", "at least one row is needed");
    }
    if settings.accumulation == 0 {
        return none("accumulation", "a step has at least one micro-batch");
    }
    check_size(settings.batch_size, examples)?;
    if settings.batch_size.checked_mul(settings.accumulation).is_none_or(|rows| rows > MAX_SIZE) {
        let reason = "a step would take more than 16777216 rows";
        return Err(Error::Setting { field: "accumulation", value: settings.accumulation.to_string(), reason });
    }
    let numbers = [
        ("learning_rate", settings.learning_rate),
        ("weight_decay", settings.weight_decay),
        ("gradient_clip", settings.gradient_clip.unwrap_or(1.0)),
    ];
    match numbers.into_iter().find(|(_, value)| !value.is_finite() || *value < 0.0) {
        Some((field, value)) => {
            Err(Error::Setting { field, value: value.to_string(), reason: "it must be a number of at least 0" })
        }
        None => Ok(()),
    }
}

/// Warns of what is allowed but seldom meant.
pub(crate) fn warn(config: &DecoderConfig, examples: &[Example], batch_size: usize) {
    if batch_size > examples.len() {
        tracing::warn!(batch_size, examples = examples.len(), "a batch is larger than the data set and repeats rows");
    }

    let longest = examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
    if longest > config.max_positions {
        tracing::warn!(longest, made_for = config.max_positions, "rows are longer than the model was made for");
    }
}
