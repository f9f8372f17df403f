//! What is wrong with a row.

use crate::data::{JsonError, TemplateError, TokenError};

/// What is wrong with a row.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum RowError {
    /// No JSON, or JSON that is no object.
    #[error("not a JSON object: {0}")]
    Json(#[from] JsonError),
    /// An object without the keys of any form.
    #[error(
        "no known form: a row has `messages` or `conversations`, `prompt` and `completion` or `response`, \
         `instruction` and `output`, `text`, or `input_ids` and `labels`; this one has {0}"
    )]
    Form(String),
    /// An object with the keys of several forms.
    #[error("two forms in one row, {first} and {second}: leave one of them out, or say which is to be read")]
    TwoForms { first: String, second: String },
    /// The form has a key that the row lacks.
    #[error("`{0}` is missing or null")]
    Missing(&'static str),
    /// A value of the wrong type.
    #[error("`{field}` must be {expected}")]
    Type { field: &'static str, expected: &'static str },
    /// A message that is no message.
    #[error("message {message} of `{field}`: {reason}")]
    Message { field: &'static str, message: usize, reason: String },
    /// Tools as a text.
    #[error("`tools` is a text: give the list of tools itself, as transformers asks for it")]
    ToolsAsText,
    /// A weight that training does not know.
    #[error("`weight` is {0}: 1 (a target) and 0 (no target) are known")]
    Weight(String),
    /// Some answers are not to be trained on, and which they are cannot be told.
    #[error(
        "which answers `weight` or `train` leave out cannot be told: the chat template marks other parts than the assistant's messages"
    )]
    UnknownAnswers,
    /// Not one label for each token.
    #[error("`labels` has {labels} entries, `input_ids` {tokens}")]
    Lengths { labels: usize, tokens: usize },
    /// An attention mask that is not the tokens and then padding.
    #[error("`attention_mask` hides positions before the last token; only padding on the right is understood")]
    Mask,
    /// A token that the model does not have.
    #[error("token {token} is outside the model's vocabulary of {vocabulary}; is this the model's tokenizer?")]
    Vocabulary { token: i64, vocabulary: usize },
    /// A text that cannot be turned into tokens.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// A conversation that the chat template does not take.
    #[error("{0}")]
    Template(#[from] TemplateError),
}

impl RowError {
    /// Whether other rows may do better: not where the model's own files cannot be used.
    pub(in crate::data) fn is_of_row(&self) -> bool {
        match self {
            RowError::Token(error) => error.is_of_text(),
            RowError::Template(error) => error.is_of_conversation(),
            _ => true,
        }
    }
}
