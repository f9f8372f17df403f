//! The command line's flags, as typed; checked where a type says so, and passed on by [`commands`](crate::commands).

use std::path::PathBuf;

#[cfg(any(feature = "plan", feature = "train"))]
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

/// Where to fine-tune: plans which layers of a language model are worth training, and trains only those.
///
/// Results go to stdout, logs and progress to stderr. Exit status: 0 done, 1 a check said no, 2 an error.
#[derive(Parser)]
#[command(name = "frostline", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    /// Write results as JSON, for machines.
    #[arg(long, global = true)]
    pub json: bool,
    /// Draw no progress bars and log warnings only.
    #[arg(long, global = true)]
    pub quiet: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run a model over examples of a task and write which layers are worth training.
    #[cfg(feature = "plan")]
    Plan(Box<PlanArguments>),
    /// Say which latent spaces were found in an ONNX file.
    #[cfg(feature = "plan")]
    Layers(LayersArguments),
    /// Show a plan: the transition trace, the gains, the frost line and why, what each frost line costs.
    Show(ShowArguments),
    /// Check that a plan is unchanged and fits a model; exit status 1 if it does not.
    Check(CheckArguments),
    /// Train what a plan names, and nothing else.
    #[cfg(feature = "train")]
    Train(Box<TrainArguments>),
    /// Measure loss, perplexity and, where rows have few distinct completions, accuracy.
    #[cfg(feature = "train")]
    Eval(EvalArguments),
    /// Put a run's trained tensors into a copy of its model, for Hugging Face transformers to load.
    #[cfg(feature = "train")]
    Merge(MergeArguments),
    /// List or clear what is kept of the states at frost lines.
    #[cfg(feature = "train")]
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Train briefly by several strategies from the same start, and set cost, loss and accuracy side by side.
    #[cfg(all(feature = "plan", feature = "train"))]
    Compare(Box<CompareArguments>),
    /// Plan and train a small language model that comes with the project, in under a minute.
    #[cfg(all(feature = "plan", feature = "train"))]
    Quickstart(QuickstartArguments),
}

/// Flags of `frostline plan`.
#[cfg(feature = "plan")]
#[derive(Args)]
pub struct PlanArguments {
    /// Model folder: config.json, safetensors weights, tokenizer.json.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Examples of the task, JSONL.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Where to write the plan.
    #[arg(long, value_name = "FILE", required_unless_present = "shard")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub shards: ShardArguments,
    /// By what rule is chosen what is trained: salf, last:N, first:N, every:N, random:N, all, spectrum:FRACTION, or
    /// manual:PATTERN+PATTERN+… with layers (3, 5-7, counted from 1) and tensor names (*.mlp.down_proj.weight).
    #[arg(long, value_name = "NAME", default_value = "salf")]
    pub strategy: frostline_schemas::select::Strategy,
    #[command(flatten)]
    pub engine: EngineArguments,
    /// Examples to run, a seeded sample of the file.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub examples: usize,
    /// Seed of the sample.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Tokens of an example; what goes beyond is cut off.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one)]
    pub max_length: usize,
    /// The share of a full fine-tuning step's FLOPs that a step may cost, above 0 and at most 1.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub budget: Option<f64>,
    /// How a layer's gain is measured: power-law or difference.
    #[arg(long, value_name = "NAME", default_value = "power-law")]
    pub gain: frostline_schemas::plan::Gain,
    /// How the examples' end-of-freezing layers become one: median, mean-trace or quantile:Q.
    #[arg(long, value_name = "NAME", default_value = "median")]
    pub aggregate: frostline_schemas::plan::Aggregate,
    /// Layers at the output that are always trained.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub min_trainable_layers: usize,
    /// Give each example its own frost line, in a file beside the plan: training then goes only as deep as each batch
    /// needs.
    #[arg(long, conflicts_with = "shard")]
    pub per_example: bool,
    /// Names of the latent spaces' tensors in the graph, from the embedding output up, where they are not found.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub latent_spaces: Option<Vec<String>>,
    #[command(flatten)]
    pub cache: CachePlaceArguments,
    #[command(flatten)]
    pub compute: ComputeArguments,
}

/// What runs the model.
#[cfg(feature = "plan")]
#[derive(Args)]
pub struct EngineArguments {
    /// The model's ONNX export [default: model.onnx or onnx/model.onnx in the model folder].
    #[arg(long, value_name = "FILE")]
    pub onnx: Option<PathBuf>,
    /// What runs the model.
    #[arg(long, value_enum, default_value_t = EngineName::Tract)]
    pub engine: EngineName,
    /// ONNX Runtime's library [default: ORT_DYLIB_PATH, then the installed Python package onnxruntime].
    #[arg(long, value_name = "FILE")]
    pub ort_library: Option<PathBuf>,
}

/// Flags of `frostline compare`.
#[cfg(all(feature = "plan", feature = "train"))]
#[derive(Args)]
pub struct CompareArguments {
    /// Model folder: config.json, safetensors weights, tokenizer.json.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Examples to plan with and to train on, JSONL.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Examples to evaluate on, JSONL.
    #[arg(long, value_name = "FILE")]
    pub eval: PathBuf,
    /// Strategies, as `frostline plan --strategy` takes them.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', required = true)]
    pub strategies: Vec<frostline_schemas::select::Strategy>,
    /// Steps of each training.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: u64,
    /// Rows of a step.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    pub batch_size: usize,
    /// The largest learning rate.
    #[arg(long, value_name = "RATE", default_value_t = 2e-5, value_parser = positive)]
    pub learning_rate: f64,
    /// Folder to write the plans into.
    #[arg(long, value_name = "DIR")]
    pub plans: Option<PathBuf>,
    #[command(flatten)]
    pub engine: EngineArguments,
    /// Examples to plan with, a seeded sample of the file.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub examples: usize,
    /// Seed of the sample, of the shuffle and of random strategies.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Tokens of an example; what goes beyond is cut off.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one)]
    pub max_length: usize,
    #[command(flatten)]
    pub cache: CachePlaceArguments,
    #[command(flatten)]
    pub compute: ComputeArguments,
}

/// Planning on more than one machine.
#[cfg(feature = "plan")]
#[derive(Args)]
pub struct ShardArguments {
    /// Run one of N equal parts of the examples, the K-th from 1, and write its traces instead of a plan.
    #[arg(long, value_name = "K/N", requires = "traces", conflicts_with_all = ["out", "from_traces"])]
    pub shard: Option<frostline_planner::Shard>,
    /// Where to write the shard's traces.
    // That it excludes --out is said here, too: a flag that one at hand excludes is not required by clap.
    #[arg(long, value_name = "FILE", requires = "shard", conflicts_with_all = ["out", "from_traces"])]
    pub traces: Option<PathBuf>,
    /// Make the plan of the traces of all shards, in any order, without running the model.
    #[arg(long, value_name = "FILE", num_args = 1..,
        conflicts_with_all = ["onnx", "engine", "ort_library", "device"])]
    pub from_traces: Option<Vec<PathBuf>>,
}

#[cfg(feature = "plan")]
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineName {
    /// Pure Rust, built in.
    Tract,
    /// ONNX Runtime, loaded from an installed library.
    Ort,
}

#[cfg(feature = "plan")]
#[derive(Args)]
pub struct LayersArguments {
    /// The ONNX file.
    pub onnx: PathBuf,
    /// Names of the latent spaces' tensors, from the embedding output up, where they are not found.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub latent_spaces: Option<Vec<String>>,
}

#[derive(Args)]
pub struct ShowArguments {
    /// The plan.
    pub plan: PathBuf,
}

#[derive(Args)]
pub struct CheckArguments {
    /// The plan.
    pub plan: PathBuf,
    /// The model folder that it must fit.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
}

/// Flags of `frostline train`.
#[cfg(feature = "train")]
#[derive(Args)]
pub struct TrainArguments {
    /// Model folder: config.json, safetensors weights, tokenizer.json.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// The plan.
    #[arg(long, value_name = "FILE")]
    pub plan: PathBuf,
    /// Training examples, JSONL.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Examples to evaluate on when training is done, JSONL.
    #[arg(long, value_name = "FILE")]
    pub eval: Option<PathBuf>,
    /// The run folder to make.
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Take three steps in memory, write nothing, and say what training will take.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub length: TrainingLength,
    /// What of the planned layers is trained.
    #[arg(long, value_enum, default_value_t = MethodName::Full)]
    pub method: MethodName,
    #[command(flatten)]
    pub lora: LoraArguments,
    /// Rows of a micro-batch.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    pub batch_size: usize,
    /// Micro-batches of an optimiser step.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub accumulation: usize,
    /// The largest learning rate.
    #[arg(long, value_name = "RATE", default_value_t = 2e-5, value_parser = positive)]
    pub learning_rate: f64,
    /// How the learning rate runs after the warm-up.
    #[arg(long, value_enum, default_value_t = ScheduleName::Linear)]
    pub schedule: ScheduleName,
    /// Steps until the learning rate is reached.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub warmup_steps: u64,
    /// AdamW's weight decay.
    #[arg(long, value_name = "RATE", default_value_t = 0.0, value_parser = not_negative)]
    pub weight_decay: f64,
    /// The largest norm of all gradients together, or `off`.
    #[arg(long, value_name = "NORM", default_value = "1.0", value_parser = norm_or_off)]
    pub gradient_clip: Clip,
    /// Tokens of an example; what goes beyond is cut off.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one)]
    pub max_length: usize,
    /// What products are computed in: trained tensors, losses and norms are in f32 either way [default: f32 on the CPU,
    /// bf16 on a GPU].
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionName>,
    /// Keep of each layer its input alone and compute the rest again: less memory, a third more time.
    #[arg(long)]
    pub recompute: bool,
    #[command(flatten)]
    pub cache: CacheArguments,
    /// In which order examples are taken.
    #[arg(long, value_enum, default_value_t = OrderName::Shuffle)]
    pub order: OrderName,
    /// Seed of the shuffle, and of what adapters begin with.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub compute: ComputeArguments,
}

#[cfg(feature = "train")]
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct TrainingLength {
    /// Optimiser steps.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: Option<u64>,
    /// Passes over the data; a fraction will do.
    #[arg(long, value_name = "N", value_parser = epochs)]
    pub epochs: Option<f64>,
}

#[cfg(feature = "train")]
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum MethodName {
    /// The planned tensors themselves.
    Full,
    /// Low-rank adapters beside their matrices, and nothing else; they want a larger --learning-rate, such as 2e-4.
    Lora,
}

/// What adapters are like, with `--method lora`.
#[cfg(feature = "train")]
#[derive(Args)]
pub struct LoraArguments {
    /// Of adapters: their rank [default: 16].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub rank: Option<usize>,
    /// Of adapters: what they give is multiplied by this over their rank [default: 32].
    #[arg(long, value_name = "X", value_parser = positive)]
    pub alpha: Option<f64>,
    /// Linear layers with an adapter, by the last part of their name, as q_proj,v_proj; or `all` [default: all].
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub targets: Option<Vec<String>>,
}

/// Where and with how many threads to compute.
#[cfg(any(feature = "plan", feature = "train"))]
#[derive(Args)]
pub struct ComputeArguments {
    /// cpu, or cuda:0 and so on in builds with the feature `cuda` (to plan, with --engine ort).
    #[arg(long, default_value = "cpu")]
    pub device: frostline_schemas::device::Device,
    /// Threads to compute with [default: all cores].
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
}

#[cfg(feature = "train")]
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum ScheduleName {
    Constant,
    Linear,
    Cosine,
}

#[cfg(feature = "train")]
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum OrderName {
    /// Shuffled anew for each pass.
    Shuffle,
    /// Shuffled, with rows of like length side by side.
    Length,
    /// As they stand.
    File,
}

#[cfg(feature = "train")]
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum PrecisionName {
    F32,
    Bf16,
}

/// The largest gradient norm, if there is one.
#[cfg(feature = "train")]
#[derive(Clone, Copy)]
pub struct Clip(pub Option<f64>);

/// Flags of `frostline eval`.
#[cfg(feature = "train")]
#[derive(Args)]
pub struct EvalArguments {
    /// Model folder.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// A run whose trained tensors take the place of the model's.
    #[arg(long, value_name = "RUN")]
    pub run: Option<PathBuf>,
    /// Examples, JSONL.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Rows computed at a time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    pub batch_size: usize,
    /// Tokens of an example; what goes beyond is cut off.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one)]
    pub max_length: usize,
    #[command(flatten)]
    pub compute: ComputeArguments,
}

/// Flags of `frostline merge`.
#[cfg(feature = "train")]
#[derive(Args)]
pub struct MergeArguments {
    /// The run folder.
    pub run: PathBuf,
    /// The model folder to make.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The model that training began from [default: where it lay then].
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// The types of the weights that are written.
    #[arg(long, value_enum, default_value_t = TypeName::Exact)]
    pub dtype: TypeName,
}

#[cfg(feature = "train")]
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum TypeName {
    /// Trained tensors in f32, as they were trained; all others as in the model.
    Exact,
    /// All as in the model; trained tensors are rounded.
    Source,
    F32,
    Bf16,
    F16,
}

/// `frostline cache`.
#[cfg(feature = "train")]
#[derive(Subcommand)]
pub enum CacheCommand {
    /// Say for which models and frost lines states are kept, and how much they take.
    List(CachePlaceArguments),
    /// Remove states that no run is using.
    Clear {
        /// Beginnings of the keys to clear, as `cache list` shows them [default: all].
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
        #[command(flatten)]
        place: CachePlaceArguments,
    },
}

/// Where what is computed once is kept: states at frost lines, Gram matrices of LM heads.
#[cfg(any(feature = "plan", feature = "train"))]
#[derive(Args)]
pub struct CachePlaceArguments {
    /// Folder of the cache, or `off` [default: frostline in the platform's cache folder].
    #[arg(long, value_name = "DIR", env = "FROSTLINE_CACHE", value_parser = cache_place())]
    pub cache: Option<CachePlace>,
}

/// Whether states at the frost line are kept, where, and how many.
#[cfg(feature = "train")]
#[derive(Args)]
pub struct CacheArguments {
    #[command(flatten)]
    pub place: CachePlaceArguments,
    /// Bytes that the cache takes at most, such as 500MB or 20GiB; the least recently used goes first.
    #[arg(long, value_name = "SIZE", default_value = "20GiB", value_parser = size)]
    pub cache_limit: u64,
}

#[cfg(any(feature = "plan", feature = "train"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    Off,
    Folder(PathBuf),
}

#[cfg(all(feature = "plan", feature = "train"))]
#[derive(Args)]
pub struct QuickstartArguments {
    /// Folder to leave the model, its data and the plan in [default: a temporary one, removed at the end].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[cfg(any(feature = "plan", feature = "train"))]
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("must be a whole number".into()),
    }
}

#[cfg(any(feature = "plan", feature = "train"))]
fn number(text: &str, fits: impl Fn(f64) -> bool, what: &str) -> Result<f64, String> {
    text.parse().ok().filter(|&number| fits(number)).ok_or_else(|| format!("must be a number {what}"))
}

#[cfg(any(feature = "plan", feature = "train"))]
fn threads(text: &str) -> Result<usize, String> {
    const MOST: usize = 1024;
    at_least_one(text).and_then(|n| if n <= MOST { Ok(n) } else { Err(format!("must be at most {MOST}")) })
}

#[cfg(feature = "plan")]
fn share(text: &str) -> Result<f64, String> {
    number(text, |share| share > 0.0 && share <= 1.0, "above 0 and at most 1")
}

#[cfg(feature = "train")]
fn epochs(text: &str) -> Result<f64, String> {
    number(text, |epochs| epochs > 0.0 && epochs <= 1e6, "above 0 and at most a million")
}

#[cfg(feature = "train")]
fn positive(text: &str) -> Result<f64, String> {
    number(text, |number| number > 0.0 && number.is_finite(), "above 0")
}

#[cfg(feature = "train")]
fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |number| number >= 0.0 && number.is_finite(), "not below 0")
}

#[cfg(feature = "train")]
fn norm_or_off(text: &str) -> Result<Clip, String> {
    if text == "off" { Ok(Clip(None)) } else { positive(text).map(|norm| Clip(Some(norm))) }
}

#[cfg(any(feature = "plan", feature = "train"))]
fn cache_place() -> impl TypedValueParser<Value = CachePlace> {
    PathBufValueParser::new().map(|path| match path.to_str() {
        Some("off") => CachePlace::Off,
        _ => CachePlace::Folder(path),
    })
}

/// Bytes, with a decimal unit (20GB), a binary one (20GiB) or none.
#[cfg(feature = "train")]
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 10] = [
        ("", 1),
        ("B", 1),
        ("KB", 1000),
        ("KIB", 1 << 10),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("MIB", 1 << 20),
        ("GIB", 1 << 30),
        ("TIB", 1 << 40),
    ];
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let unit = unit.trim_start().to_ascii_uppercase();
    let factor = UNITS.into_iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor as f64);
    let bytes = factor.and_then(|factor| number.parse::<f64>().ok().map(|number| number * factor));
    match bytes {
        Some(bytes) if (1.0..=i64::MAX as f64).contains(&bytes) => Ok(bytes as u64),
        _ => Err("must be a size above 0, such as 500MB or 20GiB".into()),
    }
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let sizes = ["1500", "20GB", "1.5 GiB", "3mb", "2TiB", "7B"].map(|text| size(text).unwrap());
        assert_eq!(sizes, [1500, 20_000_000_000, 3 << 29, 3_000_000, 2 << 40, 7]);
        for bad in ["", "GB", "-1GB", "1e3", "0", "0.0GB", "1..5GB", "20 G B", "99999999TB", "nan", "∞", "1é"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cache_flags_have_defaults() {
        #[derive(Parser)]
        struct Flags {
            #[command(flatten)]
            cache: CacheArguments,
        }
        let flags = |arguments: &[&str]| Flags::try_parse_from([&["train"], arguments].concat()).unwrap().cache;
        assert_eq!(flags(&[]).cache_limit, frostline_runtime::cache::DEFAULT_LIMIT);
        assert_eq!(flags(&["--cache", "off"]).place.cache, Some(CachePlace::Off));
        assert_eq!(flags(&["--cache", "x/y"]).place.cache, Some(CachePlace::Folder("x/y".into())));
    }
}
