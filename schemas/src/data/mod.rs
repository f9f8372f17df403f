//! Rows of a data set to tokens and targets, by the model's own tokenizer and chat template.

mod chat;
mod examples;
mod tokens;

pub use self::chat::{ChatError, ChatTemplate, Rendered, template_text};
pub use self::examples::{Example, ExampleError, Examples, IGNORED, Reading, RowError, Target, digest, read, sample};
pub use self::tokens::{Encoder, TOKENIZER_FILE, TokenError};
