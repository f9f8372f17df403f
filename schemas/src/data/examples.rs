//! The examples of a file, and why a file has none.

use std::path::{Path, PathBuf};

use super::rows::RowError;
use super::source::Place;
use crate::data::{Example, NoTarget, RowsAsRead, SourceError, TokenError, Unit};
use crate::digest::Digest;
use crate::units::plural;

/// The examples of a file.
#[derive(Clone, Debug)]
pub struct Examples {
    /// Those that have a target, in the order of their rows.
    pub examples: Vec<Example>,
    /// Rows in the file, those that were left out included.
    pub rows: u64,
    /// Rows that hold no target, and why.
    pub without_targets: Vec<(u64, NoTarget)>,
    /// Rows of which something was cut off, those that were left without a target included.
    pub truncated: Vec<u64>,
    /// Rows that could not be read.
    pub skipped: SkippedRows,
    /// Examples in which a token holds the end of what is given and the beginning of what is to be said.
    pub straddling: u64,
    /// Conversations with several answers that are to be targets, of which only the last could be told from the rest.
    pub last_answer_only: u64,
    /// Examples that the end-of-sequence token was put behind.
    pub ended: u64,
    /// Tokens of an example at most, as it was read.
    pub max_length: usize,
    /// How its rows are counted.
    pub unit: Unit,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// How it was read.
    pub read: RowsAsRead,
}

/// Rows that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkippedRows {
    /// How many.
    pub rows: u64,
    /// The first of them, with what is wrong with each.
    pub first: Vec<(u64, String)>,
}

/// Examples that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum ExampleError {
    /// The file is missing, unreadable, or of no known format.
    #[error(transparent)]
    File(#[from] SourceError),
    /// One row is bad.
    #[error("{}{}: {reason}", path.display(), Place(Some((*unit, *place))))]
    Row { path: PathBuf, unit: Unit, place: u64, reason: RowError },
    /// The file has no rows.
    #[error("{}: holds no rows", path.display())]
    Empty { path: PathBuf },
    /// No row has anything to predict.
    #[error("{}: no row has a target: {reason}", path.display())]
    NoTargets { path: PathBuf, reason: String, setting: Option<&'static str> },
    /// The end of texts is asked for, and the model's files do not say what it is.
    #[error("{}: names no end-of-sequence token to put behind completions", folder.display())]
    NoEnd { folder: PathBuf },
    /// The end of texts is asked for, and the model has no such token.
    #[error(
        "{}: the end-of-sequence token {token} is outside the model's vocabulary of {vocabulary}; is this the model's \
         tokenizer?", folder.display()
    )]
    EndOutside { folder: PathBuf, token: u32, vocabulary: usize },
    /// The model's tokenizer cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl ExampleError {
    /// The setting that caused the error or would cure it.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            ExampleError::NoTargets { setting, .. } => *setting,
            ExampleError::Row { reason: RowError::TwoForms { .. }, .. } => Some("form"),
            ExampleError::Row { reason, .. } => reason.is_of_row().then_some("on_bad_row"),
            ExampleError::NoEnd { .. } | ExampleError::EndOutside { .. } => Some("eos"),
            ExampleError::File(_) | ExampleError::Empty { .. } | ExampleError::Token(_) => None,
        }
    }
}

impl Examples {
    /// Causes for which rows were left out without a target: each with its number of rows and the first of them.
    pub fn causes(&self) -> Vec<(NoTarget, u64, u64)> {
        let mut causes: Vec<(NoTarget, u64, u64)> = Vec::new();
        for &(line, why) in &self.without_targets {
            match causes.iter_mut().find(|(known, ..)| *known == why) {
                Some((_, rows, _)) => *rows += 1,
                None => causes.push((why, 1, line)),
            }
        }
        causes
    }

    /// The error of a file in which nothing is to be predicted.
    pub(super) fn no_targets(&self, path: &Path) -> ExampleError {
        let causes = self.causes();
        let mut said: Vec<String> = causes
            .iter()
            .map(|(why, rows, _)| format!("{} with {}", plural(*rows, "row"), why.says(self.max_length)))
            .collect();
        if let Some((line, reason)) = self.skipped.first.first() {
            said.push(format!("{} skipped, first {} {line}: {reason}", plural(self.skipped.rows, "row"), self.unit));
        }
        let cut = causes.iter().any(|(why, ..)| *why == NoTarget::Cut);
        ExampleError::NoTargets { path: path.into(), reason: said.join(", "), setting: cut.then_some("max_length") }
    }
}
