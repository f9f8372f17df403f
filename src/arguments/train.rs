//! Training.

use std::path::PathBuf;

use anyhow::bail;
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use frostline_runtime::data::steps_of_epochs;
use frostline_runtime::model::ComputePrecision;
use frostline_runtime::model::target_names;
use frostline_runtime::run::{Job, JobFiles};
use frostline_runtime::train::TrainSettings;
use frostline_schemas::data::OtherRows;
use frostline_schemas::model::DecoderConfig;
use frostline_schemas::plan::{Plan, RateOrigin};
use frostline_schemas::run::{Lora, Order, Schedule, TrainingMethod, TrainingSettings};

use super::cache::CacheArguments;
use super::compute::ComputeArguments;
use super::rows::RowArguments;
use super::values::{LogEvery, NormOrOff, at_least_one, epochs, log_every, norm_or_off, not_negative, positive};

/// What is done where a flag is not given.
pub(super) const DEFAULTS: TrainingSettings = TrainingSettings::of_steps(1);

/// Flags of `frostline train`.
#[derive(Args)]
pub(crate) struct TrainArguments {
    #[command(flatten, next_help_heading = "Files")]
    pub files: TrainFiles,
    #[command(flatten, next_help_heading = "Length")]
    length: LengthArguments,
    #[command(flatten, next_help_heading = "Examples")]
    batches: BatchArguments,
    #[command(flatten, next_help_heading = "Examples")]
    rows: RowArguments,
    #[command(flatten, next_help_heading = "Optimiser")]
    optimiser: OptimiserArguments,
    #[command(flatten, next_help_heading = "Adapters")]
    method: MethodArguments,
    #[command(flatten, next_help_heading = "Running the model")]
    memory: MemoryArguments,
    #[command(flatten, next_help_heading = "Running the model")]
    compute: ComputeArguments,
    #[command(flatten, next_help_heading = "Cache")]
    cache: CacheArguments,
    #[command(flatten, next_help_heading = "What is shown")]
    pub shown: ShownArguments,
}

/// What is read and written.
#[derive(Args)]
pub(crate) struct TrainFiles {
    /// Model folder: config.json, safetensors weights, tokenizer.json.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The plan.
    #[arg(long, value_name = "FILE")]
    pub plan: PathBuf,
    /// Training examples: JSONL, a JSON array, Parquet or Arrow, also compressed by gzip or zstd.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Examples to evaluate on when training is done.
    #[arg(long, value_name = "FILE")]
    eval: Option<PathBuf>,
    /// The run folder to make; not needed with --dry-run.
    #[arg(long, value_name = "RUN", required_unless_present = "dry_run")]
    pub out: Option<PathBuf>,
}

/// How long to train.
#[derive(Args)]
struct LengthArguments {
    #[command(flatten)]
    length: StepsOrEpochs,
    /// Take three steps in memory, write nothing, and say what training will take.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct StepsOrEpochs {
    /// Optimiser steps.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Passes over the data; a fraction will do.
    #[arg(long, value_name = "N", value_parser = epochs)]
    epochs: Option<f64>,
}

/// How examples are taken.
#[derive(Args)]
struct BatchArguments {
    /// Rows of a micro-batch.
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.batch_size, value_parser = at_least_one)]
    batch_size: usize,
    /// Micro-batches of an optimiser step.
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.accumulation, value_parser = at_least_one)]
    accumulation: usize,
    /// In which order examples are taken.
    #[arg(long, value_enum, default_value_t = OrderName(DEFAULTS.order))]
    order: OrderName,
    /// Seed of the shuffle, and of what adapters begin with.
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.seed)]
    seed: u64,
}

/// How weights are updated.
#[derive(Args)]
struct OptimiserArguments {
    /// The largest learning rate [default: the plan's].
    #[arg(long, visible_alias = "lr", value_name = "RATE", value_parser = positive)]
    learning_rate: Option<f64>,
    /// How the learning rate runs after the warm-up.
    #[arg(long, value_enum, default_value_t = ScheduleName(DEFAULTS.schedule))]
    schedule: ScheduleName,
    /// Steps until the learning rate is reached.
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.warmup_steps)]
    warmup_steps: u64,
    /// AdamW's weight decay.
    #[arg(long, value_name = "RATE", default_value_t = DEFAULTS.weight_decay, value_parser = not_negative)]
    weight_decay: f64,
    /// The largest norm of all gradients together, or `off`.
    #[arg(long, value_name = "NORM", default_value_t = NormOrOff(DEFAULTS.gradient_clip), value_parser = norm_or_off)]
    gradient_clip: NormOrOff,
}

/// What of the planned layers is trained.
#[derive(Args)]
struct MethodArguments {
    /// What of the planned layers is trained.
    #[arg(long, value_enum, default_value_t = MethodName::Full)]
    method: MethodName,
    /// Of adapters: their rank [default: 16].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    rank: Option<usize>,
    /// Of adapters: what they give is multiplied by this over their rank [default: 32].
    #[arg(long, value_name = "X", value_parser = positive)]
    alpha: Option<f64>,
    /// Linear layers with an adapter, by the last part of their name, as q_proj,v_proj; or `all` [default: all].
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    targets: Option<Vec<String>>,
}

/// What a step computes in, and what it keeps.
#[derive(Args)]
struct MemoryArguments {
    /// What products are computed in: trained tensors, losses and norms are in f32 either way [default: f32 on the CPU,
    /// bf16 on a GPU].
    #[arg(long, value_enum)]
    precision: Option<PrecisionName>,
    /// Keep of each layer its input alone and compute the rest again: less memory, a third more time.
    #[arg(long)]
    recompute: bool,
}

/// What is said while training goes on.
#[derive(Args)]
pub(crate) struct ShownArguments {
    /// Log the loss every N steps, or `off`; `auto` is ten lines a run, one each 30 seconds at least, and none where a
    /// terminal shows a bar.
    #[arg(long, value_name = "N", default_value = "auto", value_parser = log_every)]
    pub log_every: LogEvery,
}

#[derive(Clone, Copy, ValueEnum)]
enum MethodName {
    /// The planned tensors themselves.
    Full,
    /// Low-rank adapters beside their matrices, and nothing else.
    Lora,
}

#[derive(Clone, Copy)]
struct ScheduleName(Schedule);

#[derive(Clone, Copy)]
struct OrderName(Order);

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionName {
    F32,
    Bf16,
}

impl TrainArguments {
    /// The files to train with, their rows read as the plan's were.
    ///
    /// # Errors
    /// [`OtherRows`] for flags that would read them otherwise.
    pub(crate) fn files(&self, plan: &Plan) -> Result<JobFiles, OtherRows> {
        Ok(JobFiles {
            model: self.files.model.clone(),
            data: self.files.data.clone(),
            eval: self.files.eval.clone(),
            rows: self.rows.settings().bound_by(&plan.data.rows_as, plan.data.max_length, &self.files.plan)?,
        })
    }

    /// The run folder to make; `None` for a dry run.
    pub(crate) fn run_folder(&self) -> Option<&PathBuf> {
        self.files.out.as_ref().filter(|_| !self.length.dry_run)
    }

    /// The runtime's settings for this job.
    ///
    /// # Errors
    /// For flags that contradict each other.
    pub(crate) fn settings(&self, job: &Job, plan: &Plan) -> anyhow::Result<TrainSettings> {
        let TrainArguments { batches, optimiser, compute, .. } = self;
        let method = self.method.method(job.config(), &plan.tensors)?;
        let planned = method.learning_rate(plan.learning_rates(job.config()));
        Ok(TrainSettings {
            training: TrainingSettings {
                method,
                steps: self.steps(job.examples()),
                batch_size: batches.batch_size,
                accumulation: batches.accumulation,
                learning_rate: optimiser.learning_rate.unwrap_or(planned),
                schedule: optimiser.schedule.0,
                warmup_steps: optimiser.warmup_steps,
                weight_decay: optimiser.weight_decay,
                gradient_clip: optimiser.gradient_clip.0,
                max_length: job.max_length(),
                order: batches.order.0,
                seed: batches.seed,
            },
            device: compute.device,
            precision: self.memory.precision.map(ComputePrecision::from),
            recompute: self.memory.recompute,
            cache: self.cache.settings(),
            frost_lines: None,
            threads: compute.threads,
        })
    }

    /// What the learning rate comes from, where it is the plan's.
    pub(crate) fn planned_rate_origin(&self, plan: &Plan) -> Option<RateOrigin> {
        let of_plan = plan.learning_rate.map_or(RateOrigin::Rule, |rate| rate.origin);
        self.optimiser.learning_rate.is_none().then_some(of_plan)
    }

    fn steps(&self, examples: usize) -> u64 {
        let rows_a_step = self.batches.batch_size.saturating_mul(self.batches.accumulation);
        let StepsOrEpochs { steps, epochs } = &self.length.length;
        steps.unwrap_or_else(|| steps_of_epochs(epochs.unwrap_or(1.0), examples, rows_a_step))
    }
}

impl MethodArguments {
    fn method(&self, config: &DecoderConfig, planned: &[String]) -> anyhow::Result<TrainingMethod> {
        let MethodArguments { method, rank, alpha, targets } = self;
        match method {
            MethodName::Full if rank.is_some() || alpha.is_some() || targets.is_some() => {
                bail!("--rank, --alpha and --targets say what adapters are like; add --method lora or leave them out")
            }
            MethodName::Full => Ok(TrainingMethod::Full),
            MethodName::Lora => Ok(TrainingMethod::Lora(Lora {
                rank: rank.unwrap_or(Lora::RANK),
                alpha: alpha.unwrap_or(Lora::ALPHA),
                targets: match targets.as_deref() {
                    Some(names) if names != ["all"] => names.to_vec(),
                    _ => target_names(config, planned),
                },
            })),
        }
    }
}

impl ValueEnum for ScheduleName {
    fn value_variants<'a>() -> &'a [ScheduleName] {
        &[ScheduleName(Schedule::Constant), ScheduleName(Schedule::Linear), ScheduleName(Schedule::Cosine)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self.0 {
            Schedule::Constant => "constant",
            Schedule::Linear => "linear",
            Schedule::Cosine => "cosine",
        }))
    }
}

impl ValueEnum for OrderName {
    fn value_variants<'a>() -> &'a [OrderName] {
        &[OrderName(Order::Shuffle), OrderName(Order::Length), OrderName(Order::File)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self.0 {
            Order::Shuffle => ("shuffle", "Shuffled anew for each pass"),
            Order::Length => ("length", "Shuffled, with rows of like length side by side"),
            Order::File => ("file", "As they stand"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

impl From<PrecisionName> for ComputePrecision {
    fn from(name: PrecisionName) -> ComputePrecision {
        match name {
            PrecisionName::F32 => ComputePrecision::F32,
            PrecisionName::Bf16 => ComputePrecision::Bf16,
        }
    }
}
