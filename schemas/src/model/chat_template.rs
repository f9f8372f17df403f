//! Where the texts of a model's chat templates lie in its folder: the identity covers them, and rendering compiles them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::files;

const TEMPLATE_FILE: &str = "chat_template.jinja";
const TEMPLATE_FOLDER: &str = "additional_chat_templates";
const CONFIG_FILE: &str = "tokenizer_config.json";
/// The largest template file read, in bytes.
const MAX_TEMPLATE: u64 = 1 << 24;
/// The largest `tokenizer_config.json` read, in bytes.
const MAX_CONFIG: u64 = 1 << 26;
/// How many templates of their own name a model may have.
const MAX_TEMPLATES: usize = 64;

/// The name of the template that is used where none is asked for.
pub(crate) const DEFAULT: &str = "default";

/// A file with a chat template that is unreadable or not what it should be.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct ChatTemplateError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// The text of a template and the file that holds it.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// The templates of the model in `folder` by their names, as transformers takes them: files of their own come before the
/// tokenizer's config.
pub(crate) fn find(folder: &Path) -> Result<BTreeMap<String, Found>, ChatTemplateError> {
    let mut found = BTreeMap::new();
    if let Some(template) = template_file(folder.join(TEMPLATE_FILE))? {
        found.insert(DEFAULT.to_owned(), template);
    }
    for (name, path) in named_files(&folder.join(TEMPLATE_FOLDER))? {
        if let Some(template) = template_file(path)? {
            found.insert(name, template);
        }
    }
    if found.is_empty() { in_config(folder) } else { Ok(found) }
}

/// The texts of the templates with what tells them apart, for the model's identity: the one template's text, or the names
/// and texts of several.
pub(super) fn texts(folder: &Path) -> Result<Vec<String>, ChatTemplateError> {
    let mut found = find(folder)?;
    if found.len() == 1
        && let Some(only) = found.remove(DEFAULT)
    {
        return Ok(vec![only.text]);
    }
    Ok(found.into_iter().flat_map(|(name, template)| [name, template.text]).collect())
}

fn template_file(path: PathBuf) -> Result<Option<Found>, ChatTemplateError> {
    match files::read_at_most(&path, MAX_TEMPLATE) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(Found { path, text })),
            Err(error) => Err(ChatTemplateError { path, reason: error.to_string() }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ChatTemplateError { path, reason: error.to_string() }),
    }
}

/// The files `NAME.jinja` in a folder; none where there is no such folder.
fn named_files(folder: &Path) -> Result<Vec<(String, PathBuf)>, ChatTemplateError> {
    let failed = |error: io::Error| ChatTemplateError { path: folder.into(), reason: error.to_string() };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(".jinja")) {
            found.push((name.to_owned(), entry.path()));
        }
        if found.len() > MAX_TEMPLATES {
            return Err(failed(io::Error::other(format!("more than {MAX_TEMPLATES} templates"))));
        }
    }
    Ok(found)
}

/// `chat_template` of the tokenizer's config: a text, or a list of named ones, of which the last of a name counts.
fn in_config(folder: &Path) -> Result<BTreeMap<String, Found>, ChatTemplateError> {
    let path = folder.join(CONFIG_FILE);
    let wrong = |reason: &str| ChatTemplateError { path: path.clone(), reason: format!("`chat_template` {reason}") };
    let template = |text: &str| Found { path: path.clone(), text: text.to_owned() };
    let mut found = BTreeMap::new();
    let failed = |error: io::Error| ChatTemplateError { path: path.clone(), reason: error.to_string() };
    let config = files::json_if_there(&path, MAX_CONFIG).map_err(failed)?;
    match config.as_ref().and_then(|config| config.get("chat_template")) {
        None | Some(Json::Null) => {}
        Some(Json::String(text)) => {
            found.insert(DEFAULT.to_owned(), template(text));
        }
        Some(Json::Array(list)) => {
            for entry in list {
                let text_of = |field: &str| entry.get(field).and_then(Json::as_str);
                let (Some(name), Some(text)) = (text_of("name"), text_of("template")) else {
                    return Err(wrong("must be a text, or a list of objects with `name` and `template`"));
                };
                found.insert(name.to_owned(), template(text));
            }
        }
        Some(Json::Object(named)) => {
            for (name, text) in named {
                found.insert(name.clone(), template(text.as_str().ok_or_else(|| wrong("must hold texts"))?));
            }
        }
        Some(_) => return Err(wrong("must be a text, or a list of objects with `name` and `template`")),
    }
    Ok(found)
}
