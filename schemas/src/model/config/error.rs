//! What can be wrong with a `config.json`.

use std::path::PathBuf;

use super::families;

/// A `config.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum ConfigError {
    /// The file is missing or unreadable.
    #[error("{}: {source}: a model folder has config.json, safetensors weights and tokenizer.json, as Hugging Face saves them", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// Not JSON, or a field of the wrong type.
    #[error("{}: {source}", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    /// A model family that is not described here.
    #[error("{}: model_type `{family}` is not supported; supported: {}", path.display(), families::model_types())]
    Family { path: PathBuf, family: String },
    /// A field that the family needs is not there.
    #[error("{}: `{field}` is missing", path.display())]
    Missing { path: PathBuf, field: &'static str },
    /// A field with a value that is impossible, or that asks for something that is not computed here.
    #[error("{}: `{field}` is {value}: {reason}", path.display())]
    Value { path: PathBuf, field: &'static str, value: String, reason: String },
}
