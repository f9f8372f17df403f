//! Rows of a data set to tokens and targets, by the model's own tokenizer and chat template.

mod end;
mod example;
mod examples;
mod json;
mod labels;
mod lengths;
mod log;
mod no_target;
mod reader;
mod rows;
mod settings;
mod source;
mod template;
mod tokenise;
mod tokens;

pub use self::end::MAX_LABELS;
pub use self::example::{Completion, Example, Target, digest};
pub use self::examples::{ExampleError, Examples, SkippedRows};
pub use self::json::JsonError;
pub use self::labels::labels;
pub use self::lengths::Lengths;
pub use self::no_target::NoTarget;
pub use self::reader::read_examples;
pub use self::rows::{IGNORED, RowError};
pub use self::settings::{BadRows, EndOfText, OtherRows, RowForm, RowSettings, RowsAsRead};
pub use self::source::{RawRow, Reason, RowFile, SourceError, Unit};
pub use self::template::{Answer, ChatTemplate, Conversation, FoundBy, Rendered, TemplateError, TemplateSettings};
pub use self::tokens::{Encoded, Encoder, SpecialToken, SpecialTokens, SpecialTokensAround, TokenError};
