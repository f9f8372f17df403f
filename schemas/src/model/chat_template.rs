//! Where the text of a model's chat template lies in its folder: the identity covers it, and rendering compiles it.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::files;

const TEMPLATE_FILE: &str = "chat_template.jinja";
const CONFIG_FILE: &str = "tokenizer_config.json";
/// The largest template file read, in bytes.
const MAX_TEMPLATE: u64 = 1 << 24;
/// The largest `tokenizer_config.json` read, in bytes.
const MAX_CONFIG: u64 = 1 << 26;

/// A file with a chat template that is unreadable or not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct ChatTemplateError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// The text of the template of the model in `folder`, if it has one.
pub(super) fn text(folder: &Path) -> Result<Option<String>, ChatTemplateError> {
    let found = find(folder, &tokenizer_config(folder)?)?;
    Ok(found.map(|(_, text)| text))
}

/// The template and the file that holds it: a file of its own comes before the tokenizer's config.
pub(crate) fn find(folder: &Path, config: &Json) -> Result<Option<(PathBuf, String)>, ChatTemplateError> {
    let path = folder.join(TEMPLATE_FILE);
    match files::read_at_most(&path, MAX_TEMPLATE) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some((path, text))),
            Err(error) => Err(ChatTemplateError { path, reason: error.to_string() }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(template_in(config).map(|text| (folder.join(CONFIG_FILE), text)))
        }
        Err(error) => Err(ChatTemplateError { path, reason: error.to_string() }),
    }
}

/// What `tokenizer_config.json` says; null where there is none.
pub(crate) fn tokenizer_config(folder: &Path) -> Result<Json, ChatTemplateError> {
    let path = folder.join(CONFIG_FILE);
    match files::read_at_most(&path, MAX_CONFIG) {
        Ok(text) => {
            serde_json::from_slice(&text).map_err(|error| ChatTemplateError { path, reason: error.to_string() })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Json::Null),
        Err(error) => Err(ChatTemplateError { path, reason: error.to_string() }),
    }
}

/// `chat_template`: a text, or a list of named ones with one named `default`.
fn template_in(config: &Json) -> Option<String> {
    match config.get("chat_template")? {
        Json::String(text) => Some(text.clone()),
        Json::Array(named) => {
            let default = named.iter().find(|t| t.get("name").and_then(Json::as_str) == Some("default"))?;
            default.get("template")?.as_str().map(str::to_owned)
        }
        _ => None,
    }
}
