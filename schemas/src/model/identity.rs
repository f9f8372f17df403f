//! What a model is, by content: plans are bound to it.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::canonical;
use crate::digest::{Digest, Hasher};
use crate::files;
use crate::model::chat_template;
use crate::model::config::MAX_CONFIG;
use crate::model::{ConfigError, Family, FolderError, ModelFolder, TOKENIZER_FILE};

/// What a model is, by content: where its files lie and what they are called does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelIdentity {
    /// The family that `config.json` names.
    pub family: Family,
    /// Number of decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Rows of the LM head.
    pub vocabulary: usize,
    /// Digest of all tensors' names, types, shapes and contents, however they are spread over files.
    pub weights: Digest,
    /// Digest of `config.json` without white space, the order of its keys, and what says where and with what it was saved.
    pub config: Digest,
    /// Digest of `tokenizer.json` and the chat template, as both decide on tokens: the framed SHA-256 of the file, then the
    /// framed text of the template; of several, the framed names and texts in the order of the names. The file's SHA-256
    /// alone where there is no template; none without the file.
    pub tokenizer: Option<Digest>,
}

/// Keys of `config.json` that change whenever a model is saved and say nothing about it.
const INCIDENTAL: [&str; 2] = ["_name_or_path", "transformers_version"];

impl ModelFolder {
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
        let text = files::read_at_most(&path, MAX_CONFIG)
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
        let templates = chat_template::texts(&self.path)?;
        if templates.is_empty() {
            return Ok(Some(tokenizer));
        }
        let mut hasher = Hasher::default();
        hasher.update_framed(tokenizer.as_bytes());
        templates.iter().for_each(|template| hasher.update_framed(template.as_bytes()));
        Ok(Some(hasher.finish()))
    }
}

impl ModelIdentity {
    /// What differs between the planned model (`self`) and another, for people.
    pub fn differences(&self, other: &ModelIdentity) -> Vec<String> {
        let pairs = [
            ("family", self.family.name().to_string(), other.family.name().to_string()),
            ("layers", self.layers.to_string(), other.layers.to_string()),
            ("hidden size", self.hidden_size.to_string(), other.hidden_size.to_string()),
            ("vocabulary", self.vocabulary.to_string(), other.vocabulary.to_string()),
            ("weights", self.weights.short(), other.weights.short()),
            ("config.json", self.config.short(), other.config.short()),
            ("tokenizer and chat template", short(&self.tokenizer), short(&other.tokenizer)),
        ];
        let different = pairs.into_iter().filter(|(_, planned, found)| planned != found);
        different.map(|(what, planned, found)| format!("{what}: planned for {planned}, found {found}")).collect()
    }
}

fn short(digest: &Option<Digest>) -> String {
    digest.map_or_else(|| "none".into(), |digest| digest.short())
}
