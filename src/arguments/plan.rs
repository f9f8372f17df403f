//! Planning.

use std::path::PathBuf;

use anyhow::bail;
use clap::builder::Resettable;
use clap::{Args, ValueEnum};
use frostline_planner::{EngineChoice, PlanSettings, SampleShard, Strategy};
use frostline_schemas::device::Device;
use frostline_schemas::plan::{Aggregate, Gain};

use super::cache::CacheArguments;
use super::compute::ComputeArguments;
use super::rows::RowArguments;
use super::values::{at_least_one, share};

/// What is done where a flag is not given.
const DEFAULTS: PlanSettings = PlanSettings::new(PathBuf::new(), PathBuf::new());

/// Flags of `frostline plan`.
#[derive(Args)]
pub(crate) struct PlanArguments {
    #[command(flatten, next_help_heading = "Files")]
    pub files: PlanFiles,
    #[command(flatten, next_help_heading = "What is trained")]
    choice: ChoiceArguments,
    #[command(flatten, next_help_heading = "Examples")]
    sample: SampleArguments,
    #[command(flatten, next_help_heading = "Running the model")]
    engine: EngineArguments,
    #[command(flatten, next_help_heading = "Running the model")]
    spaces: LatentSpaceArguments,
    #[command(flatten, next_help_heading = "Running the model")]
    compute: ComputeArguments,
    #[command(flatten, next_help_heading = "More than one machine")]
    pub shards: ShardArguments,
    #[command(flatten, next_help_heading = "Cache")]
    cache: CacheArguments,
}

/// What is read and written.
#[derive(Args)]
pub(crate) struct PlanFiles {
    /// Model folder: config.json, safetensors weights, tokenizer.json.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Examples of the task: JSONL, a JSON array, Parquet or Arrow, also compressed by gzip or zstd.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Where to write the plan.
    #[arg(long, value_name = "FILE", required_unless_present = "shard")]
    pub out: Option<PathBuf>,
}

/// What decides where the frost line lies.
#[derive(Args)]
struct ChoiceArguments {
    /// By what rule is chosen what is trained: salf, last:N, first:N, middle:N, every:N, random:N, all, spectrum:FRACTION, or
    /// manual:PATTERN+PATTERN+… with layers (3, 5-7, counted from 1) and tensor names (*.mlp.down_proj.weight).
    #[arg(long, value_name = "NAME", default_value_t = DEFAULTS.strategy)]
    strategy: Strategy,
    /// The share of a full fine-tuning step's FLOPs that a step may cost, above 0 and at most 1.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    budget: Option<f64>,
    /// Layers at the output that are always trained.
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.min_trainable_layers, value_parser = at_least_one)]
    min_trainable_layers: usize,
    /// How a layer's gain is measured: power-law or difference.
    #[arg(long, value_name = "NAME", default_value_t = DEFAULTS.gain)]
    gain: Gain,
    /// How the examples' end-of-freezing layers become one: median, mean-trace or quantile:Q.
    #[arg(long, value_name = "NAME", default_value_t = DEFAULTS.aggregate)]
    aggregate: Aggregate,
    /// Give each example its own frost line, in a file beside the plan: training then goes only as deep as each batch
    /// needs.
    #[arg(long, conflicts_with = "shard")]
    per_example: bool,
}

/// The examples to plan with.
#[derive(Args)]
pub(super) struct SampleArguments {
    /// Examples to plan with, a seeded sample of the file.
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.examples, value_parser = at_least_one)]
    pub examples: usize,
    /// Seed of the sample, and of whatever else is drawn.
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.seed)]
    pub seed: u64,
    #[command(flatten)]
    pub rows: RowArguments,
}

/// What runs the model.
#[derive(Args)]
pub(super) struct EngineArguments {
    /// The model's ONNX export [default: model.onnx or onnx/model.onnx in the model folder].
    #[arg(long, value_name = "FILE")]
    pub onnx: Option<PathBuf>,
    /// What runs the model.
    #[arg(long, value_enum, default_value_t = EngineName::Tract)]
    engine: EngineName,
    /// ONNX Runtime's library [default: ORT_DYLIB_PATH, then the installed Python package onnxruntime].
    #[arg(long, value_name = "FILE")]
    ort_library: Option<PathBuf>,
}

/// Where the latent spaces lie in the graph.
#[derive(Args)]
pub(crate) struct LatentSpaceArguments {
    /// Names of the latent spaces' tensors in the graph, from the embedding output up, where they are not found.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub latent_spaces: Option<Vec<String>>,
}

/// Planning on more than one machine.
#[derive(Args)]
pub(crate) struct ShardArguments {
    /// Run one of N equal parts of the examples, the K-th from 1, and write its traces instead of a plan.
    #[arg(long, value_name = "K/N", requires = "traces", conflicts_with_all = ["out", "from_traces"])]
    pub shard: Option<SampleShard>,
    /// Where to write the shard's traces.
    // That it excludes --out is said here, too: a flag that one at hand excludes is not required by clap.
    #[arg(long, value_name = "FILE", requires = "shard", conflicts_with_all = ["out", "from_traces"])]
    pub traces: Option<PathBuf>,
    /// Make the plan of the traces of all shards, in any order, without running the model.
    #[arg(long, value_name = "FILE", num_args = 1..,
        conflicts_with_all = ["onnx", "engine", "ort_library", "device"])]
    pub from_traces: Option<Vec<PathBuf>>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EngineName {
    /// Pure Rust, built in.
    Tract,
    /// ONNX Runtime, loaded from an installed library.
    Ort,
}

/// Flags of `frostline layers`.
#[derive(Args)]
#[command(next_help_heading = "Latent spaces")]
pub(crate) struct LayersArguments {
    /// The ONNX file.
    #[arg(help_heading = Resettable::Reset)]
    pub onnx: PathBuf,
    #[command(flatten)]
    pub spaces: LatentSpaceArguments,
}

impl PlanArguments {
    /// The planner's settings.
    ///
    /// # Errors
    /// For flags that contradict each other.
    pub(crate) fn settings(&self) -> anyhow::Result<PlanSettings> {
        let PlanArguments { files, choice, sample, engine, compute, .. } = self;
        Ok(PlanSettings {
            model: files.model.clone(),
            onnx: engine.onnx.clone(),
            data: files.data.clone(),
            strategy: choice.strategy.clone(),
            engine: engine.choice(compute.device)?,
            threads: compute.threads,
            examples: sample.examples,
            seed: sample.seed,
            rows: sample.rows.settings(),
            gain: choice.gain,
            aggregate: choice.aggregate,
            min_trainable_layers: choice.min_trainable_layers,
            budget: choice.budget,
            latent_spaces: self.spaces.latent_spaces.clone(),
            per_example: choice.per_example,
            cache: self.cache.store(),
        })
    }
}

impl EngineArguments {
    /// The engine on this device.
    pub(super) fn choice(&self, device: Device) -> anyhow::Result<EngineChoice> {
        match self.engine {
            EngineName::Ort => Ok(EngineChoice::Ort { library: self.ort_library.clone(), device }),
            EngineName::Tract if device == Device::Cpu => Ok(EngineChoice::Tract),
            EngineName::Tract => bail!("--device {device}: tract runs on the CPU; add --engine ort"),
        }
    }
}
