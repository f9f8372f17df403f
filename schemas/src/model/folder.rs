//! A model folder as Hugging Face saves it: config, weights, tokenizer; and the identity that plans are bound to.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::canonical;
use crate::data::{self, ChatError, Encoder, ExampleError, Examples, Reading, TOKENIZER_FILE};
use crate::digest::{Digest, Hasher};
use crate::files;
use crate::model::{self, ConfigError, DecoderConfig, Family, Weights, WeightsError};

/// A model folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Its `config.json` cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its weights cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// What holds its chat template is unreadable.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// A file of the folder is unreadable.
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
}

/// What a model is, by content: names and places of files do not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelIdentity {
    pub family: Family,
    pub layers: usize,
    pub hidden_size: usize,
    pub vocabulary: usize,
    /// Of all tensors' names, types, shapes and contents, however they are spread over files.
    pub weights: Digest,
    /// Of `config.json` without white space, the order of its keys, and what says where and with what it was saved.
    pub config: Digest,
    /// Of `tokenizer.json` and the chat template, as both decide on tokens: the framed SHA-256 of the file, then the
    /// framed text of the template. The file's SHA-256 alone where there is no template; none without the file.
    pub tokenizer: Option<Digest>,
}

/// An opened model folder. Weights are mapped, nothing is read but headers.
pub struct ModelFolder {
    pub path: PathBuf,
    pub config: DecoderConfig,
    pub weights: Weights,
    pub encoder: Encoder,
}

/// Keys of `config.json` that change with each saving and say nothing of the model.
const INCIDENTAL: [&str; 2] = ["_name_or_path", "transformers_version"];

impl ModelFolder {
    /// Opens a folder and checks that its weights are whole and are those that its config calls for.
    pub fn open(path: &Path) -> Result<ModelFolder, FolderError> {
        let config = model::read_config(path)?;
        let weights = Weights::open(path)?;
        weights.check(&config)?;
        Ok(ModelFolder { path: path.into(), config, weights, encoder: Encoder::new(path) })
    }

    /// The model's identity. Reads and hashes every file of it.
    pub fn identity(&self) -> Result<ModelIdentity, FolderError> {
        Ok(ModelIdentity {
            family: self.config.family,
            layers: self.config.layers.len(),
            hidden_size: self.config.hidden,
            vocabulary: self.config.vocabulary,
            weights: self.weights.digest()?,
            config: self.config_digest()?,
            tokenizer: self.tokenizer_digest()?,
        })
    }

    fn config_digest(&self) -> Result<Digest, FolderError> {
        let path = self.path.join("config.json");
        let text = files::read_at_most(&path, model::MAX_CONFIG)
            .map_err(|source| FolderError::Read { path: path.clone(), source })?;
        let mut json: Json =
            serde_json::from_slice(&text).map_err(|source| ConfigError::Parse { path: path.clone(), source })?;
        if let Some(fields) = json.as_object_mut() {
            fields.retain(|key, _| !INCIDENTAL.contains(&key.as_str()));
        }
        Ok(canonical::digest(&json))
    }

    fn tokenizer_digest(&self) -> Result<Option<Digest>, FolderError> {
        let path = self.path.join(TOKENIZER_FILE);
        let tokenizer = match Digest::of_file(&path) {
            Ok(digest) => digest,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FolderError::Read { path, source }),
        };
        let Some(template) = data::template_text(&self.path)? else { return Ok(Some(tokenizer)) };
        let mut hasher = Hasher::default();
        hasher.update_framed(tokenizer.as_bytes());
        hasher.update_framed(template.as_bytes());
        Ok(Some(hasher.finish()))
    }

    /// Reads a JSONL file of examples for this model, with at most `max_length` tokens each and never more than the
    /// model has positions. Says in the log how many rows were cut or left out, and where the first of them stands.
    pub fn read_examples(&self, path: &Path, max_length: usize) -> Result<Examples, ExampleError> {
        let max_length = max_length.min(self.config.max_positions);
        let reading = Reading { encoder: &self.encoder, vocabulary: self.config.vocabulary, max_length };
        let read = data::read(path, &reading)?;
        if let Some(line) = read.without_targets.first() {
            let rows = read.without_targets.len();
            tracing::warn!(
                "{}: {rows} rows left out, the first on line {line}: no target within the first {max_length} tokens",
                path.display()
            );
        }
        if let Some(line) = read.truncated.first() {
            let rows = read.truncated.len();
            tracing::warn!(
                "{}: {rows} rows cut off after {max_length} tokens, the first on line {line}",
                path.display()
            );
        }
        Ok(read)
    }
}
