//! What can go wrong between an ONNX file and a plan.
//!
//! Messages are lower case, name the culprit and say what to do about it.

mod traces;

use std::path::PathBuf;

use frostline_schemas::data::ExampleError;
use frostline_schemas::model::FolderError;
use frostline_schemas::model::WeightsError;
use frostline_schemas::plan::{PlanFilesError, TaskError};
use frostline_schemas::select::StrategyError;

pub use self::traces::TracesError;

/// Everything that planning can fail with.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    /// A file is missing or unreadable.
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The file is cut off, or is no ONNX file.
    #[error("{}: not a whole ONNX file: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    /// A tensor's data does not fit what the file says of it.
    #[error("{}: tensor `{tensor}`: {reason}", path.display())]
    Tensor { path: PathBuf, tensor: String, reason: String },
    /// External data that is missing, too short, or lies outside the model's folder.
    #[error("{}: external data `{location}` of tensor `{tensor}`: {reason}; keep the .onnx file and its data files together in one folder", path.display())]
    External { path: PathBuf, location: String, tensor: String, reason: String },
    /// No output of the graph is computed by an LM head.
    #[error("{}: no logits found: {seen}; export the model with its LM head (a causal language model, one `logits` output)", path.display())]
    NoLogits { path: PathBuf, seen: String },
    /// No token embedding feeds the LM head.
    #[error("{}: no token embedding found: {seen}; the export must take token ids, not embeddings", path.display())]
    NoEmbedding { path: PathBuf, seen: String },
    /// The residual stream could not be followed from the embedding to the LM head.
    #[error("{}: no latent spaces found: {seen}; name them by hand, the tensors from the embedding's output to the last layer's; {candidates}", path.display())]
    NoLatentSpaces { path: PathBuf, seen: String, candidates: String },
    /// The nodes between the last layer and the LM head cannot be applied to other hidden states.
    #[error("{}: the final norm cannot be copied: {seen}; name the latent spaces by hand, the last one right before the final norm", path.display())]
    FinalNorm { path: PathBuf, seen: String },
    /// A tensor named by hand is not computed in the graph.
    #[error("{}: latent spaces named by hand: {reason}; {candidates}", path.display())]
    NamedSpace { path: PathBuf, reason: String, candidates: String },
    /// The graph has an input that planning does not feed.
    #[error("{}: input `{input}` ({shape}) is not one of input_ids, attention_mask, position_ids; export the model without it", path.display())]
    Input { path: PathBuf, input: String, shape: String },
    /// Weights in a precision that engines do not compute in everywhere.
    #[error("{}: tensor `{tensor}` is bfloat16; export the model in f32 or f16", path.display())]
    Bfloat16 { path: PathBuf, tensor: String },
    /// Weights that are quantised in a way that cannot be compared with the model's.
    #[error("{}: its weights are quantised for {op}; export the model in f32 or f16, or in blocks of few bits (MatMulNBits)", path.display())]
    Quantised { path: PathBuf, op: String },
    /// The ONNX file and the model folder are two different models.
    #[error("{}: not the model in {}: {reason}; export this model again, or give the folder that was exported", path.display(), folder.display())]
    OtherModel { path: PathBuf, folder: PathBuf, reason: String },
    /// An export without the sliding window that the model has; it computes the same for short rows alone.
    #[error("{}: not the model in {}: {reason}; export with PyTorch or Optimum, or plan with a max length of {max_length}", path.display(), folder.display())]
    OtherWindow { path: PathBuf, folder: PathBuf, reason: String, max_length: usize },
    /// An engine could not compile or run the graph.
    #[error("{}: {engine} cannot run it: {reason}; try {other}, or another export", path.display())]
    Graph { path: PathBuf, engine: &'static str, reason: String, other: &'static str },
    /// A fused node that is set in a way that is neither written out nor safe to run as it is.
    #[error("{}: node `{node}` ({op}) has {setting}, which is not supported; export with PyTorch or Optimum", path.display())]
    Fused { path: PathBuf, node: String, op: String, setting: String },
    /// An engine cannot be used, or gave something else than was asked for.
    #[error("{engine}: {reason}")]
    Engine { engine: &'static str, reason: String },
    /// No ONNX Runtime library could be loaded.
    #[error(
        "no usable ONNX Runtime library: {tried}; install the Python package `onnxruntime`, set ORT_DYLIB_PATH, or plan with tract"
    )]
    NoOrt { tried: String },
    /// An example that the model cannot be run on.
    #[error("{}:{line}: {reason}", path.display())]
    Example { path: PathBuf, line: u64, reason: String },
    /// A hidden state with an infinity or a NaN in it.
    #[error("{}:{line}: latent space {space} is not finite at position {position}; the export is broken or its precision too low", path.display())]
    NotFinite { path: PathBuf, line: u64, space: usize, position: u32 },
    /// Even the largest ridge left no Cholesky factor.
    #[error("tensor `{tensor}`: no semantic basis: {reason}")]
    Basis { tensor: String, reason: String },
    /// A matrix without a spectrum.
    #[error("tensor `{tensor}`: no singular values: {reason}")]
    Spectrum { tensor: String, reason: String },
    /// The strategy does not fit the model.
    #[error(transparent)]
    Strategy(#[from] StrategyError),
    /// No frost line both fits the budget and leaves a layer to train.
    #[error(
        "budget {budget}: even with {frozen} of {layers} layers frozen a step costs {share:.3} of a full one; raise the budget, or let fewer layers be trained at least"
    )]
    Budget { budget: f64, frozen: usize, layers: usize, share: f64 },
    /// A setting outside its range, or one that does not go with another.
    #[error("{reason}")]
    Setting {
        /// The setting's name in snake case.
        setting: &'static str,
        reason: String,
    },
    /// The model folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The examples cannot be used.
    #[error(transparent)]
    Examples(#[from] ExampleError),
    /// The weights beside config.json cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The traces of a shard cannot be used.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The plan cannot be written where it should be.
    #[error(transparent)]
    PlanFiles(#[from] PlanFilesError),
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
    /// The setting that caused the error or would cure it, in snake case; `None` where no setting matters.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Error::NoLatentSpaces { .. } | Error::FinalNorm { .. } | Error::NamedSpace { .. } => Some("latent_spaces"),
            Error::OtherWindow { .. } => Some("max_length"),
            Error::Graph { .. } => Some("engine"),
            Error::NoOrt { .. } => Some("ort_library"),
            Error::Budget { .. } => Some("budget"),
            Error::Setting { setting, .. } => Some(setting),
            Error::Traces(error) => error.setting(),
            Error::Examples(error) => error.setting(),
            Error::Strategy(error) => error.setting(),
            _ => None,
        }
    }
}

/// What planning returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
