//! A conversation as text, and what of it the assistant said.

use std::ops::Range;

/// A conversation as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// What the model is shown.
    pub text: String,
    /// What the assistant said, in order.
    pub answers: Vec<Answer>,
    /// How the answers were found.
    pub found_by: FoundBy,
}

/// Something that the assistant said, its end-of-turn token included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Where it stands, in bytes of the text.
    pub range: Range<usize>,
    /// Which message it is, where that can be told.
    pub message: Option<usize>,
}

/// How the answers of a conversation were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// By the template's own `{% generation %}`.
    Marks,
    /// The text up to an answer and up to its end begins the whole text.
    Prefix,
    /// At least one by what changes in the text when the answer is another.
    Comparison,
    /// Only the last answer is known: the template writes earlier ones so that they cannot be told.
    LastAnswer,
}
