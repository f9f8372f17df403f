//! A template that cannot be read.

/// A template that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) reason: String,
}

impl SyntaxError {
    pub(crate) fn new(line: usize, reason: impl Into<String>) -> SyntaxError {
        SyntaxError { line, reason: reason.into() }
    }
}
