//! Planning.

use std::path::PathBuf;

use anyhow::bail;
use clap::builder::Resettable;
use clap::{Args, ValueEnum};
use frostline_planner::{EngineChoice, PlanSettings, SampleShard, Strategy};
#[cfg(feature = "train")]
use frostline_runtime::{
    card::CardSettings,
    probe::{Aim, Horizon, ProbeSettings},
    train::TrainSettings,
};
use frostline_schemas::device::Device;
use frostline_schemas::plan::{Aggregate, Gain};
#[cfg(feature = "train")]
use frostline_schemas::run::TrainingSettings;

use super::cache::CacheArguments;
use super::compute::ComputeArguments;
use super::rows::RowArguments;
#[cfg(feature = "train")]
use super::train::DEFAULTS as TRAINING;
use super::values::{CountOrAuto, at_least_one, count_or_auto, share};
#[cfg(feature = "train")]
use super::values::{epochs, not_negative, positive};

/// What is done where a flag is not given.
const DEFAULTS: PlanSettings = PlanSettings::new(PathBuf::new(), PathBuf::new());

/// Flags of `frostline plan`.
#[derive(Args)]
pub(crate) struct PlanArguments {
    #[command(flatten, next_help_heading = "Files")]
    pub files: PlanFiles,
    #[command(flatten, next_help_heading = "What is trained")]
    choice: ChoiceArguments,
    #[cfg(feature = "train")]
    #[command(flatten, next_help_heading = "What is trained")]
    signals: SignalArguments,
    #[cfg(feature = "train")]
    #[command(flatten, next_help_heading = "Probes (--strategy probe)")]
    probes: ProbeArguments,
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
    /// By what rule is chosen what is trained: salf, probe, gradient or gradient:SHARE, last:N, first:N, middle:N, every:N, random:N, all, spectrum:FRACTION, or
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

/// What else is measured.
#[cfg(feature = "train")]
#[derive(Args)]
struct SignalArguments {
    /// Record these signals, too, beside what decides: `gradient`, what gradients of a few batches say of each layer.
    #[arg(long, value_enum, value_name = "NAME")]
    signals: Option<SignalName>,
}

#[cfg(feature = "train")]
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SignalName {
    /// The gradient card.
    Gradient,
}

/// How probes plan.
#[cfg(feature = "train")]
#[derive(Args)]
struct ProbeArguments {
    #[command(flatten)]
    horizon: PlannedLength,
    /// Rows of a step.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    batch_size: Option<usize>,
    /// What probes may cost, as a share of full training for those steps [default: 0.3].
    #[arg(long, value_name = "SHARE", value_parser = positive)]
    probe_budget: Option<f64>,
    #[command(flatten)]
    aim: AimArguments,
}

/// How long the training is that is planned for.
#[cfg(feature = "train")]
#[derive(Args)]
#[group(multiple = false)]
struct PlannedLength {
    /// Plan for so many steps.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Plan for so many passes over the data [default: 1].
    #[arg(long, value_name = "N", value_parser = epochs)]
    epochs: Option<f64>,
}

/// What is chosen of the arms; with --budget, the best within that share of what full training costs.
#[cfg(feature = "train")]
#[derive(Args)]
#[group(multiple = false)]
struct AimArguments {
    /// Choose the cheapest arm that loses at most this against the best: of accuracy, where completions are ranked, or as
    /// a share of the loss [default: 0.01 of accuracy, 0.05 of loss].
    #[arg(long, value_name = "X", value_parser = not_negative, conflicts_with = "budget")]
    tolerance: Option<f64>,
    /// Choose the best within so many seconds of training on this machine.
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "budget")]
    seconds: Option<f64>,
}

/// What a plan is made of beside the planner's settings.
pub(crate) struct Evidence {
    /// Traces of all shards: no model is run.
    pub traces: Option<Vec<PathBuf>>,
    /// How gradients are computed.
    #[cfg(feature = "train")]
    pub gradients: CardSettings,
    /// Whether what they say is recorded also where it does not decide.
    #[cfg(feature = "train")]
    pub records_gradients: bool,
    /// How probes plan.
    #[cfg(feature = "train")]
    pub probes: ProbeSettings,
}

/// The examples to plan with.
#[derive(Args)]
pub(super) struct SampleArguments {
    /// Examples to plan with, a seeded sample of the file; auto is as many as it takes until the frost line is stable, 32,
    /// 64, 128 or 256.
    #[arg(long, value_name = "N", default_value_t = CountOrAuto(DEFAULTS.examples), value_parser = count_or_auto)]
    pub examples: CountOrAuto,
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
        #[cfg(feature = "train")]
        if let Some(flag) = self.probes.first_given().filter(|_| choice.strategy != Strategy::Probe) {
            bail!("{flag} says how probes plan: add --strategy probe, or leave it out");
        }
        Ok(PlanSettings {
            model: files.model.clone(),
            onnx: engine.onnx.clone(),
            data: files.data.clone(),
            strategy: choice.strategy.clone(),
            engine: engine.choice_for(&choice.strategy, compute.device)?,
            threads: compute.threads,
            examples: sample.examples.0,
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

    /// What the plan is made of beside these settings.
    pub(crate) fn evidence(&self) -> Evidence {
        Evidence {
            traces: self.shards.from_traces.clone(),
            #[cfg(feature = "train")]
            gradients: self.compute.gradients(),
            #[cfg(feature = "train")]
            records_gradients: self.signals.signals == Some(SignalName::Gradient),
            #[cfg(feature = "train")]
            probes: self.probe_settings(),
        }
    }

    #[cfg(feature = "train")]
    fn probe_settings(&self) -> ProbeSettings {
        let training = TrainingSettings {
            batch_size: self.probes.batch_size.unwrap_or(TRAINING.batch_size),
            seed: self.sample.seed,
            ..TRAINING
        };
        ProbeSettings {
            horizon: self.probes.horizon(),
            share: self.probes.probe_budget.unwrap_or(ProbeSettings::SHARE),
            aim: self.probes.aim(self.choice.budget),
            training: TrainSettings {
                device: self.compute.device,
                threads: self.compute.threads,
                cache: self.cache.settings(),
                ..TrainSettings::new(training)
            },
        }
    }
}

impl ComputeArguments {
    /// How gradients are computed with these flags.
    #[cfg(feature = "train")]
    pub(super) fn gradients(&self) -> CardSettings {
        CardSettings { device: self.device, threads: self.threads, ..CardSettings::DEFAULT }
    }
}

#[cfg(feature = "train")]
impl ProbeArguments {
    /// Whether any of these flags is given.
    fn first_given(&self) -> Option<&'static str> {
        let ProbeArguments { horizon, batch_size, probe_budget, aim } = self;
        let given = [
            ("--steps", horizon.steps.is_some()),
            ("--epochs", horizon.epochs.is_some()),
            ("--batch-size", batch_size.is_some()),
            ("--probe-budget", probe_budget.is_some()),
            ("--tolerance", aim.tolerance.is_some()),
            ("--seconds", aim.seconds.is_some()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(flag, _)| flag)
    }

    fn horizon(&self) -> Horizon {
        let PlannedLength { steps, epochs } = self.horizon;
        steps.map_or(Horizon::Epochs(epochs.unwrap_or(1.0)), Horizon::Steps)
    }

    fn aim(&self, budget: Option<f64>) -> Aim {
        match (budget, self.aim.seconds) {
            (Some(share), _) => Aim::Share(share),
            (_, Some(seconds)) => Aim::Seconds(seconds),
            (None, None) => Aim::Cheapest { tolerance: self.aim.tolerance },
        }
    }
}

impl EngineArguments {
    /// The engine on this device for a strategy that runs the export; for others it does not matter.
    pub(super) fn choice_for(&self, strategy: &Strategy, device: Device) -> anyhow::Result<EngineChoice> {
        if [Strategy::Salf, Strategy::Probe].contains(strategy) { self.choice(device) } else { Ok(EngineChoice::Tract) }
    }

    /// The engine on this device.
    fn choice(&self, device: Device) -> anyhow::Result<EngineChoice> {
        match self.engine {
            EngineName::Ort => Ok(EngineChoice::Ort { library: self.ort_library.clone(), device }),
            EngineName::Tract if device == Device::Cpu => Ok(EngineChoice::Tract),
            EngineName::Tract => bail!("--device {device}: tract runs on the CPU; add --engine ort"),
        }
    }
}
