//! What can go wrong while a template renders.

use minijinja::{Error, ErrorKind};

/// An error of one operation.
pub(super) fn failed(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

/// What a template says by `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub(super) String);

/// Why a rendering failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The template's own refusal.
    Raised(String),
    /// What went wrong, and in which line.
    Error { line: Option<usize>, reason: String },
}

/// What the engine's error says: the template's refusal, or the innermost reason.
pub(super) fn fault(error: &Error) -> Fault {
    let mut innermost = error;
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return Fault::Raised(message.clone());
        }
        innermost = inner.downcast_ref().unwrap_or(innermost);
        source = inner.source();
    }
    Fault::Error { line: innermost.line().or(error.line()), reason: reason(innermost) }
}

/// The engine's error in a few words, with filters and tests under the names that templates know.
pub(super) fn reason(error: &Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "does more work than a template may do for one row".into(),
        (ErrorKind::UndefinedError, None) => "an undefined value is used".into(),
        (_, Some(detail)) => detail.replace("filter f_", "filter ").replace("test t_", "test "),
        (kind, None) => kind.to_string(),
    }
}
