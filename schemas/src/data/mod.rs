//! Rows of a data set to tokens and targets, by the model's own tokenizer and chat template.

mod chat;
mod example;
mod reader;
mod rows;
mod tokens;

pub use self::chat::{ChatError, ChatTemplate, Rendered};
pub use self::example::{Example, Target, digest};
pub use self::reader::{ExampleError, Examples, read, read_examples};
pub use self::rows::{IGNORED, Reading, RowError};
pub use self::tokens::{Encoder, TokenError};
