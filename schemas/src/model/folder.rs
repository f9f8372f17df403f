//! A model folder as Hugging Face saves it: config and weights.

use std::path::{Path, PathBuf};

use crate::model::{self, ChatTemplateError, ConfigError, DecoderConfig, Weights, WeightsError};

/// A model folder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum FolderError {
    /// Its `config.json` cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its weights cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// What holds its chat template is unreadable.
    #[error(transparent)]
    ChatTemplate(#[from] ChatTemplateError),
    /// A file of the folder is unreadable.
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
}

/// An opened model folder. Weights are mapped, nothing is read but headers.
pub struct ModelFolder {
    /// Where it lies.
    pub path: PathBuf,
    /// What `config.json` describes.
    pub config: DecoderConfig,
    /// Its tensors, checked against `config`.
    pub weights: Weights,
}

/// The tokenizer's file in a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

impl ModelFolder {
    /// Opens a folder and checks that its weights are whole and are those that its config calls for.
    pub fn open(path: &Path) -> Result<ModelFolder, FolderError> {
        let config = model::read_config(path)?;
        let weights = Weights::open(path)?;
        weights.check(&config)?;
        Ok(ModelFolder { path: path.into(), config, weights })
    }
}
