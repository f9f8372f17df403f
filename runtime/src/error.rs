//! Everything that can go wrong in this crate.

use std::path::PathBuf;

use frostline_schemas::cache::CacheError;
use frostline_schemas::data::{ExampleError, OtherRows};
use frostline_schemas::device::Device;
use frostline_schemas::model::{Dtype, FolderError, WeightsError};
use frostline_schemas::plan::{ExampleFrostLinesError, PlanError, TaskError};
use frostline_schemas::units::plural;

/// An error of the runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The plan has a frost line for each example, and no row's reaches down to the plan's own.
    #[error(
        "no row reaches below frost line {deepest}, so layers above the plan's frost line {planned} would never train \
         ({own} of {all} rows have a frost line of their own in this plan); train on the rows that were planned, or \
         plan for these"
    )]
    Shallow {
        /// Rows with a frost line of their own.
        own: usize,
        /// All rows.
        all: usize,
        /// The lowest frost line of a row.
        deepest: usize,
        /// The plan's frost line.
        planned: usize,
    },
    /// Rows have frost lines of their own, and the run takes none that reaches the lowest layer to train.
    #[error(
        "in {} no row goes below frost line {deepest}, and the plan trains from {planned} up: layers between \
         would stay as they are; train for more steps, or give another seed",
        plural(*steps, "step")
    )]
    Unreached {
        /// Steps of the run.
        steps: u64,
        /// The lowest frost line of a row that the run takes.
        deepest: usize,
        /// The plan's frost line.
        planned: usize,
    },
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
    /// Rows that are to be read otherwise than before.
    #[error(transparent)]
    OtherRows(#[from] OtherRows),
    /// The plan cannot be used, or is not for this model.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The cache cannot be used, or has no room.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The frost lines of a plan's examples cannot be used.
    #[error(transparent)]
    FrostLines(#[from] ExampleFrostLinesError),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Names that are none of the model's.
    #[error("the model has no tensor {}; the plan was made for another model", list(names))]
    UnknownTensors {
        /// The names.
        names: Vec<String>,
    },
    /// Nothing to train.
    #[error("no tensor to train is named; plan again")]
    EmptyScope,
    /// A frost line at or above the last layer.
    #[error("frost line {frost_line} leaves none of {layers} layers to train; it must be below {layers}")]
    FrostLine {
        /// The frost line.
        frost_line: usize,
        /// Layers of the model.
        layers: usize,
    },
    /// A tensor of another shape than the model's.
    #[error("tensor `{name}` has shape {found:?}, the model's has {expected:?}")]
    TensorShape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The model's.
        expected: Vec<usize>,
    },
    /// A tensor that is not made of floats.
    #[error("tensor `{name}` is {dtype:?}; it must be F32, BF16 or F16")]
    NotFloat {
        /// The tensor.
        name: String,
        /// What it is made of.
        dtype: Dtype,
    },
    /// A token or position outside a table, of unknown origin.
    #[error("`{table}` has {rows} rows, {index} (counted from 0) is none of them; is this the model's tokenizer?")]
    Index {
        /// The table.
        table: String,
        /// What was looked up.
        index: u32,
        /// Rows of the table.
        rows: usize,
    },
    /// A token outside the vocabulary.
    #[error("line {line}: token {token} is outside the vocabulary of {vocabulary}; is this the model's tokenizer?")]
    Token {
        /// The row's line in its file.
        line: u64,
        /// The token.
        token: u32,
        /// Tokens that the model knows.
        vocabulary: usize,
    },
    /// Targets outside their row, out of order or twice at one position.
    #[error("line {line}: targets must stand within their row, in order, one at each position")]
    TargetPositions {
        /// The row's line in its file.
        line: u64,
    },
    /// An example longer than the learned positions.
    #[error(
        "line {line}: {tokens} tokens are more than the {positions} positions that the model knows; cut rows off there"
    )]
    TooLong {
        /// The row's line in its file.
        line: u64,
        /// Its tokens.
        tokens: usize,
        /// Positions that the model has learned.
        positions: usize,
    },
    /// A prompt that leaves too few of the learned positions for the completions to rank.
    #[error(
        "line {line}: its prompt and the longest completion of the data are {tokens} tokens, more than the {positions} positions that the model knows; shorten its prompt or leave the row out"
    )]
    RankingTooLong {
        /// The row's line in its file.
        line: u64,
        /// Tokens of prompt and completion.
        tokens: usize,
        /// Positions that the model has learned.
        positions: usize,
    },
    /// Settings that contradict each other or make no sense.
    #[error("{} is {value}: {reason}", field.replace('_', " "))]
    Setting {
        /// The setting, in snake case.
        field: &'static str,
        /// What it is set to.
        value: String,
        /// What is wrong with that.
        reason: &'static str,
    },
    /// Names that no linear layer above the frost line has.
    #[error("no linear layer above the frost line is named {}; there are {}", list(unknown), known.join(", "))]
    Targets {
        /// The names.
        unknown: Vec<String>,
        /// The names that there are.
        known: Vec<String>,
    },
    /// A rank that is none, or larger than a weight's own could be.
    #[error(
        "rank is {rank}: it must be at least 1 and at most {}, the smaller side of `{module}` ({outputs} outputs, {inputs} inputs); lower it or leave that one out of the targets",
        inputs.min(outputs)
    )]
    Rank {
        /// The rank.
        rank: usize,
        /// The linear layer that it does not fit.
        module: String,
        /// Its inputs.
        inputs: usize,
        /// Its outputs.
        outputs: usize,
    },
    /// A comparison needs rows that are not trained on.
    #[error("no rows to evaluate on are given")]
    NothingToEvaluate,
    /// The loss of an evaluated model is infinite or not a number.
    #[error("{}: the loss is {loss}: the weights hold or lead to numbers that are not finite", model.display())]
    EvaluationLoss {
        /// The model's folder.
        model: PathBuf,
        /// The mean loss.
        loss: f64,
    },
    /// A device that this build or this machine does not have.
    #[error("device {device}: {reason}")]
    Device {
        /// The device.
        device: Device,
        /// Why it cannot be used.
        reason: String,
    },
    /// The first step did not reach exactly the planned tensors.
    #[error("the first step does not train what the plan says: tensors {0}; no weights were written")]
    Coverage(CoverageGap),
    /// The loss is infinite or not a number.
    #[error(
        "the loss of step {step} is {loss}; training stopped before its update and wrote no weights: lower the learning rate, warm up longer or clip gradients"
    )]
    Loss {
        /// The step, counted from 1.
        step: u64,
        /// Its loss.
        loss: f64,
    },
    /// What probes may cost does not allow for any that say something.
    #[error(
        "probes of the fewest steps cost {needed:.2} of {} of full training, more than they may; let them cost so much, \
         or plan for more steps",
        plural(*horizon, "step")
    )]
    ProbeBudget {
        /// As a share of full training.
        needed: f64,
        /// Steps that are planned for.
        horizon: u64,
    },
    /// What a training may cost or take does not allow for one step.
    #[error("not one step of any arm costs or takes so little; allow for more")]
    NothingFits,
    /// There is one layer.
    #[error("the model has one layer: there is nothing to choose; train all of it")]
    NothingToProbe,
    /// All probes diverged.
    #[error("all probes diverged, with learning rates down to {rate:e}; the rows or the weights are broken")]
    Probes {
        /// The smallest rate that was tried.
        rate: f64,
    },
    /// The loss or the gradient at the model's own weights is infinite or not a number.
    #[error("the {what} of batch {batch} is not finite at the model's own weights; they are broken, or the rows are")]
    NotFinite {
        /// The loss or the gradient.
        what: &'static str,
        /// Counted from 1.
        batch: usize,
    },
    /// The gradient is infinite or not a number.
    #[error(
        "the gradient of step {step} is not finite; training stopped before its update and wrote no weights: lower the learning rate, warm up longer or clip gradients"
    )]
    Gradient {
        /// The step, counted from 1.
        step: u64,
    },
    /// The last update, after which no loss is computed, left infinities or no numbers.
    #[error(
        "after the last step the values of {} are not finite; no weights were written: lower the learning rate, warm up longer or clip gradients",
        list(names)
    )]
    Diverged {
        /// The tensors.
        names: Vec<String>,
    },
    /// A folder or file that would be written over.
    #[error("{}: exists already; name another or remove it", .0.display())]
    Exists(PathBuf),
    /// A run folder that is not whole.
    #[error("{}: {reason}", path.display())]
    Run {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A run that began from another model.
    #[error(
        "{}: the run began from another model ({}); give the one that was trained, which was {}",
        run.display(),
        differences.join("; "),
        model.display()
    )]
    OtherModel {
        /// The run's folder.
        run: PathBuf,
        /// The folder of the model that was trained.
        model: PathBuf,
        /// How the given one differs.
        differences: Vec<String>,
    },
    /// A hook stopped the run for a reason of its own.
    #[error("{0}")]
    Hook(Box<dyn std::error::Error + Send + Sync>),
    /// A mistake in this crate.
    #[error("internal error: {0}; please report it")]
    Internal(&'static str),
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Error {
        match error {
            TaskError::Folder(error) => error.into(),
            TaskError::Examples(error) => error.into(),
        }
    }
}

impl Error {
    /// The setting that caused the error or would cure it, in snake case; `None` where no one setting does.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Error::Cache(error) => error.setting(),
            Error::Examples(error) => error.setting(),
            Error::OtherRows(error) => Some(error.setting),
            Error::FrostLines(error) => error.setting(),
            Error::Setting { field, .. } => Some(field),
            Error::TooLong { .. } | Error::RankingTooLong { .. } => Some("max_length"),
            Error::Unreached { .. } => Some("steps"),
            Error::ProbeBudget { .. } => Some("probe_budget"),
            Error::NothingFits => Some("budget"),
            Error::Targets { .. } => Some("targets"),
            Error::Rank { .. } => Some("rank"),
            Error::NothingToEvaluate => Some("eval"),
            Error::Device { .. } => Some("device"),
            Error::Loss { .. } | Error::Gradient { .. } | Error::Diverged { .. } => Some("learning_rate"),
            Error::Exists(_) => Some("out"),
            _ => None,
        }
    }

    /// For `map_err` on the reading or writing of a file.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { path, source }
    }
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
