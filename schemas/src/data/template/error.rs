//! A chat template that cannot be used.

use std::path::{Path, PathBuf};

use super::fault::Fault;
use crate::model::chat_template::ChatTemplateError;

/// A chat template that cannot be used, or not for a conversation.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum TemplateError {
    /// The model has no template.
    #[error(
        "{}: conversations need a chat template: chat_template.jinja, or `chat_template` in \
         tokenizer_config.json; a base model has none, so give it rows with `prompt` and `completion`",
        folder.display()
    )]
    NoTemplate { folder: PathBuf },
    /// A file is unreadable or not what it should be.
    #[error(transparent)]
    File(#[from] ChatTemplateError),
    /// No template of the name that was asked for.
    #[error("{}: no chat template is named `{name}`; there is {}", folder.display(), listed(names))]
    Name { folder: PathBuf, name: String, names: Vec<String> },
    /// Several templates, none of them the usual one, and none asked for.
    #[error("{}: several chat templates and none named `default`; name one of {}", folder.display(), listed(names))]
    NoDefault { folder: PathBuf, names: Vec<String> },
    /// The template does not compile.
    #[error("{}: chat template, line {line}: {reason}", path.display())]
    Compile { path: PathBuf, line: usize, reason: String },
    /// The template refuses the conversation.
    #[error("the chat template says: {0}")]
    Raised(String),
    /// The template fails with the conversation.
    #[error("{}: chat template, {}{reason}", path.display(), line.map(|line| format!("line {line}: ")).unwrap_or_default())]
    Render { path: PathBuf, line: Option<usize>, reason: String },
    /// The conversation is not what a template takes.
    #[error("{0}")]
    Conversation(String),
    /// The answers cannot be told from the rest of the text.
    #[error(
        "the chat template has no `generation` marks and writes this conversation so that the assistant's answers cannot be \
         told apart; give this row as `input_ids` and `labels`"
    )]
    Unclear,
}

impl TemplateError {
    /// Whether other conversations may do better: not where the template cannot be used.
    pub(in crate::data) fn is_of_conversation(&self) -> bool {
        use TemplateError::{Conversation, Raised, Render, Unclear};
        matches!(self, Raised(_) | Render { .. } | Conversation(_) | Unclear)
    }

    /// Why the template of a file did not render.
    pub(super) fn of(fault: Fault, path: &Path) -> TemplateError {
        match fault {
            Fault::Raised(message) => TemplateError::Raised(message),
            Fault::Error { line, reason } => TemplateError::Render { path: path.into(), line, reason },
        }
    }
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
