//! The settings of a run: what was trained, on what, how.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::{RowSettings, RowsAsRead};
use crate::digest::Digest;
use crate::model::ModelIdentity;
use crate::plan::LearningRate;

/// Version of the run folder's files.
pub const VERSION: u64 = 1;
/// The file with the run's settings, a [`RunRecord`].
pub const SETTINGS_FILE: &str = "settings.json";
/// The file with one [`StepMetrics`](crate::run::StepMetrics) a line.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// The file with the trained tensors and nothing else.
pub const TRAINED_FILE: &str = "trained.safetensors";
/// The file with the trained adapters and nothing else, as PEFT writes it.
pub const ADAPTER_FILE: &str = "adapter_model.safetensors";
/// The file that tells PEFT what the adapters are.
pub const ADAPTER_CONFIG_FILE: &str = "adapter_config.json";
/// The key in the trained file's metadata that holds the plan's id.
pub const PLAN_KEY: &str = "frostline.plan";
/// The key in the trained file's metadata that holds the digest of the weights that training began from.
pub const BASE_KEY: &str = "frostline.base_weights";

/// `settings.json` of a run: what was trained, on what, how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// Version of the run folder's files.
    pub version: u64,
    /// Id of the plan.
    pub plan: Digest,
    /// Layers frozen, counted from the input.
    pub frost_line: usize,
    /// Of the planned tensors, or of the adapters beside them.
    pub trained_parameters: u64,
    /// The model that training began from.
    pub model: ModelIdentity,
    /// Where that model lay: to find it again, not to know it by.
    pub model_folder: PathBuf,
    /// SHA-256 of the training file.
    pub data: Digest,
    /// Examples in the training file.
    pub examples: usize,
    /// How rows were read; left out where all of it was left to the rows and the model's folder.
    #[serde(default, skip_serializing_if = "RowsAsRead::is_default")]
    pub rows_as: RowsAsRead,
    /// How it was trained.
    pub training: TrainingSettings,
}

/// How to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingSettings {
    /// What of the planned layers is trained.
    #[serde(default)]
    pub method: TrainingMethod,
    /// Optimiser steps in all.
    pub steps: u64,
    /// Rows of a micro-batch.
    pub batch_size: usize,
    /// Micro-batches of a step.
    pub accumulation: usize,
    /// The largest learning rate.
    pub learning_rate: f64,
    /// How the learning rate runs.
    pub schedule: Schedule,
    /// Steps until the learning rate is reached.
    pub warmup_steps: u64,
    /// AdamW's, decoupled from the gradient.
    pub weight_decay: f64,
    /// The largest norm of all gradients together; larger ones are scaled down to it.
    pub gradient_clip: Option<f64>,
    /// Tokens of an example; what goes beyond is cut off.
    pub max_length: usize,
    /// In which order examples are taken.
    pub order: Order,
    /// Seed of the shuffle and of what adapters begin with.
    pub seed: u64,
}

impl TrainingSettings {
    /// What is done for so many steps where nothing else is asked for.
    pub const fn of_steps(steps: u64) -> TrainingSettings {
        TrainingSettings {
            method: TrainingMethod::Full,
            steps,
            batch_size: 16,
            accumulation: 1,
            learning_rate: 2e-5,
            schedule: Schedule::Linear,
            warmup_steps: 10,
            weight_decay: 0.0,
            gradient_clip: Some(1.0),
            max_length: RowSettings::DEFAULT_MAX_LENGTH,
            order: Order::Shuffle,
            seed: 0,
        }
    }
}

/// What of the planned layers is trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TrainingMethod {
    /// The planned tensors themselves.
    #[default]
    Full,
    /// Low-rank adapters beside them.
    Lora(Lora),
}

/// Low-rank adapters (Hu et al., arXiv 2106.09685): `y = W x + (alpha / rank) · B A x`, of which A and B are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rows of A and columns of B.
    pub rank: usize,
    /// Scales what the adapters add: by `alpha / rank`.
    pub alpha: f64,
    /// The linear layers with an adapter: the last part of their names.
    pub targets: Vec<String>,
}

impl Lora {
    /// The rank where nothing else is asked for.
    pub const RANK: usize = 16;
    /// What scales adapters where nothing else is asked for.
    pub const ALPHA: f64 = 32.0;
}

impl TrainingMethod {
    /// Which of a plan's rates it takes.
    pub fn learning_rate(&self, rates: LearningRate) -> f64 {
        match self {
            TrainingMethod::Full => rates.full,
            TrainingMethod::Lora(_) => rates.lora,
        }
    }

    /// The file that holds what was trained.
    pub fn file(&self) -> &'static str {
        match self {
            TrainingMethod::Full => TRAINED_FILE,
            TrainingMethod::Lora(_) => ADAPTER_FILE,
        }
    }
}

/// How the learning rate runs after the warm-up, in which it is multiplied by `(step + 1) / warmup_steps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Not multiplied by anything.
    Constant,
    /// Multiplied by `1 − step / steps`, from the first step on.
    Linear,
    /// Multiplied by `(1 + cos(π · step / steps)) / 2`, from the first step on.
    Cosine,
}

/// In which order examples are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Shuffled anew for each pass over the data.
    Shuffle,
    /// Shuffled, with rows of like length side by side.
    Length,
    /// As they stand in the file.
    File,
}
