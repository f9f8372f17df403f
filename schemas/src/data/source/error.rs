//! What is wrong with a file of rows, and where.

use std::fmt;
use std::path::PathBuf;

use super::limits::{MAX_BLANK, MAX_ROW};

/// What a file of rows may be, for messages.
pub(super) const EXPECTED: &str =
    "rows come as JSON lines or a JSON array, either also in gzip or zstd, as Parquet or as Arrow";

/// How the rows of a file are counted, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// By the lines they stand on.
    Line,
    /// By their number: a JSON array's, Parquet's and Arrow's.
    Row,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Line => "line",
            Unit::Row => "row",
        })
    }
}

/// A file whose rows cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {reason}", path.display(), Place(*.place))]
pub struct SourceError {
    /// The file.
    pub path: PathBuf,
    /// The row at which reading ended; none where the file as a whole is meant.
    pub place: Option<(Unit, u64)>,
    /// What is wrong.
    pub reason: Reason,
}

/// `:3` for a line, as editors take it, and ` row 3` for a row.
pub(in crate::data) struct Place(pub(in crate::data) Option<(Unit, u64)>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((Unit::Line, line)) => write!(f, ":{line}"),
            Some((Unit::Row, row)) => write!(f, " row {row}"),
            None => Ok(()),
        }
    }
}

/// What is wrong with a file of rows.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Reason {
    /// The file is missing or unreadable.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// It is something else.
    #[error("is {0}; {EXPECTED}")]
    Kind(String),
    /// Text in an encoding other than UTF-8.
    #[error("is text in {0}; save it as UTF-8")]
    Encoding(&'static str),
    /// An object that holds the rows.
    #[error("is one object that holds rows under `{0}`; write those rows alone, one JSON object a line")]
    Nested(String),
    /// More bytes than a row may have.
    #[error("longer than {} MiB", MAX_ROW >> 20)]
    TooLong,
    /// More white space between rows than is gone past.
    #[error("more than {} MiB of blank lines or other white space between rows", MAX_BLANK >> 20)]
    Blank,
    /// A JSON array that is not one.
    #[error("not a JSON array: {0}")]
    Array(String),
    /// It ends too early.
    #[error("is cut short: {0}")]
    Cut(&'static str),
    /// Something else behind the compressed data.
    #[error("more follows the end of its {0} data; is the file damaged, or several files in one?")]
    Follows(&'static str),
    /// Data that are not what its format says.
    #[error("is not readable as {format}: {reason}")]
    Damaged { format: &'static str, reason: String },
    /// More in one piece than is held in memory.
    #[error("one {0}; write the file in smaller batches")]
    Large(String),
    /// Another program wrote to it.
    #[error("was changed while it was read")]
    Changed,
    /// This build cannot read it.
    #[error("is {0}, which this build does not read: it lacks the feature `parquet`")]
    NoParquet(&'static str),
}
