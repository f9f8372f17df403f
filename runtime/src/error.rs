//! Everything that can go wrong in this crate.

use std::path::PathBuf;

use frostline_schemas::data::ExampleError;
use frostline_schemas::model::FolderError;
use frostline_schemas::model::{Dtype, WeightsError};
use frostline_schemas::plan::PlanError;

/// An error of the runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A plan with a frost line for each example, and none of the rows reaches down to the plan's own.
    #[error(
        "no row reaches below frost line {deepest}, so layers above the plan's frost line {planned} would never train \
         ({own} of {all} rows have a frost line of their own in this plan); train on the rows that were planned, or \
         plan for these"
    )]
    Shallow { own: usize, all: usize, deepest: usize, planned: usize },
    /// Of rows with frost lines of their own a run takes none that reaches the deepest layer to train.
    #[error(
        "in {steps} steps no row goes below frost line {deepest}, and the plan trains from {planned} up: layers between \
         would stay as they are; train for more steps, or give another seed"
    )]
    Unreached { steps: u64, deepest: usize, planned: usize },
    /// A tensor operation failed: memory ran out, or a device refused.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The model's weights cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The model's folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Rows that cannot be used.
    #[error(transparent)]
    Examples(#[from] ExampleError),
    /// The plan cannot be used, or is not for this model.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// Names that are none of the model's.
    #[error("the model has no tensor {}; the plan was made for another model", list(names))]
    UnknownTensors { names: Vec<String> },
    /// Nothing to train.
    #[error("no tensor to train is named; plan again")]
    EmptyScope,
    /// A frost line at or above the last layer.
    #[error("frost line {frost_line} leaves none of {layers} layers to train; it must be below {layers}")]
    FrostLine { frost_line: usize, layers: usize },
    /// A tensor of another shape than the model's.
    #[error("tensor `{name}` has shape {found:?}, the model's has {expected:?}")]
    TensorShape { name: String, found: Vec<usize>, expected: Vec<usize> },
    /// A tensor that is not made of floats.
    #[error("tensor `{name}` is {dtype:?}; it must be F32, BF16 or F16")]
    NotFloat { name: String, dtype: Dtype },
    /// A token or place outside a table, of unknown origin.
    #[error("`{table}` has {rows} rows, {index} (counted from 0) is none of them; is this the model's tokenizer?")]
    Index { table: String, index: u32, rows: usize },
    /// A token outside the vocabulary.
    #[error("line {line}: token {token} is outside the vocabulary of {vocabulary}; is this the model's tokenizer?")]
    Token { line: u64, token: u32, vocabulary: usize },
    /// Targets outside their row, out of order or twice at one place.
    #[error("line {line}: targets must stand within their row, in order, one at each place")]
    TargetPlaces { line: u64 },
    /// An example longer than the learned positions.
    #[error(
        "line {line}: {tokens} tokens are more than the {positions} places that the model knows; give --max-length {positions} or less"
    )]
    TooLong { line: u64, tokens: usize, positions: usize },
    /// A prompt that leaves too few of the learned positions for the completions to rank.
    #[error(
        "line {line}: its prompt and the longest completion of the data are {tokens} tokens, more than the {positions} places that the model knows; shorten its prompt or leave the row out"
    )]
    RankingTooLong { line: u64, tokens: usize, positions: usize },
    /// TrainSettings that contradict each other or make no sense.
    #[error("{field} is {value}: {reason}")]
    Setting { field: &'static str, value: String, reason: &'static str },
    /// Names that no linear layer above the frost line has.
    #[error("no linear layer above the frost line is named {}; there are {}", list(unknown), known.join(", "))]
    Targets { unknown: Vec<String>, known: Vec<String> },
    /// A rank that is none, or larger than a weight's own could be.
    #[error(
        "rank is {rank}: it must be at least 1 and at most {}, the smaller side of `{module}` ({outputs} outputs, {inputs} inputs); lower it or leave that one out of the targets",
        inputs.min(outputs)
    )]
    Rank { rank: usize, module: String, inputs: usize, outputs: usize },
    /// A comparison needs rows that are not trained on.
    #[error("no rows to evaluate on are given")]
    NothingToEvaluate,
    /// A device that this build or this machine does not have.
    #[error("device {device}: {reason}")]
    Device { device: frostline_schemas::device::Device, reason: String },
    /// The first step did not reach exactly the planned tensors.
    #[error("the first step does not train what the plan says: tensors {0}; no weights were written")]
    Coverage(CoverageGap),
    /// The loss is infinite or not a number.
    #[error(
        "the loss of step {step} is {loss}; training stopped before its update and wrote no weights: lower the learning rate, warm up longer or clip gradients"
    )]
    Loss { step: u64, loss: f64 },
    /// The gradient is infinite or not a number.
    #[error(
        "the gradient of step {step} is not finite; training stopped before its update and wrote no weights: lower the learning rate, warm up longer or clip gradients"
    )]
    Gradient { step: u64 },
    /// The last update, after which no loss is computed, left infinities or no numbers.
    #[error(
        "after the last step the values of {} are not finite; no weights were written: lower the learning rate, warm up longer or clip gradients",
        list(names)
    )]
    Diverged { names: Vec<String> },
    /// A folder or file that would be written over.
    #[error("{}: exists already; name another place or remove it", .0.display())]
    Exists(PathBuf),
    /// A run folder that is not whole.
    #[error("{}: {reason}", path.display())]
    Run { path: PathBuf, reason: String },
    /// A run that began from another model.
    #[error(
        "{}: the run began from another model ({}); give the one that was trained, which was {}",
        run.display(),
        differences.join("; "),
        model.display()
    )]
    OtherModel { run: PathBuf, model: PathBuf, differences: Vec<String> },
    /// States that the cache may not take, or not beside those that other runs are using.
    #[error(
        "{}: the states at the frost line take {}, but the cache may hold {}{}; raise --cache-limit or do without (--cache off)",
        root.display(),
        size(*needed),
        size(*limit),
        if *in_use > 0 { format!(", of which {} are in use", size(*in_use)) } else { String::new() }
    )]
    CacheLimit { root: PathBuf, needed: u64, limit: u64, in_use: u64 },
    /// States for which the disk has no room.
    #[error(
        "{}: the states at the frost line take {}, but the disk has room for {}; keep them elsewhere (--cache DIR) or do without (--cache off)",
        root.display(),
        size(*needed),
        size(*free)
    )]
    CacheDisk { root: PathBuf, needed: u64, free: u64 },
    /// The beginning of no cache key, or of several.
    #[error(
        "{}: {} keys begin with `{prefix}`; `frostline cache list` shows them",
        root.display(),
        if *found == 0 { "no".into() } else { found.to_string() }
    )]
    CacheKey { root: PathBuf, prefix: String, found: usize },
    /// A user without a home directory.
    #[error("no home directory to keep a cache in; set FROSTLINE_CACHE, give --cache DIR, or do without (--cache off)")]
    NoCacheFolder,
    /// A mistake in this crate.
    #[error("internal error: {0}; please report it")]
    Internal(&'static str),
}

impl Error {
    /// For `map_err` on the reading or writing of a file.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { path, source }
    }
}

/// Bytes with a binary unit: 1.5 GiB.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut scaled, mut unit) = (bytes as f64, 0);
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{scaled:.1} {}", UNITS[unit]) }
}

/// Names in backquotes; of very many only the first.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut said: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if names.len() > SHOWN {
        said.push(format!("and {} more", names.len() - SHOWN));
    }
    said.join(", ")
}

/// How the tensors that a step reached differ from the planned ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoverageGap {
    /// Planned tensors without a gradient.
    pub missing: Vec<String>,
    /// Tensors with a gradient that are not planned.
    pub unplanned: Vec<String>,
    /// Tensors whose gradient is not finite everywhere.
    pub infinite: Vec<String>,
}

impl CoverageGap {
    pub(crate) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unplanned.is_empty() && self.infinite.is_empty()
    }
}

impl std::fmt::Display for CoverageGap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds = [
            ("planned but without a gradient", &self.missing),
            ("with a gradient but not planned", &self.unplanned),
            ("with a gradient that is not finite", &self.infinite),
        ];
        let said = kinds.iter().filter(|(_, names)| !names.is_empty());
        let said: Vec<String> = said.map(|(what, names)| format!("{what}: {}", names.join(", "))).collect();
        f.write_str(&said.join("; "))
    }
}
