//! A row as it comes from its file.

use serde_json::{Map, Value as Json};

#[cfg(feature = "parquet")]
use super::cells::Batch;
use super::error::Reason;
use crate::data::json::{self, JsonError};

/// Rows, and what ended their reading, if it was not the file's end: a place and a reason.
pub(super) type Chunk = (Vec<RawRow>, Option<Failure>);

/// Why no more rows are read, and at which of them, if at one.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) place: Option<u64>,
    pub(super) reason: Reason,
}

impl<R: Into<Reason>> From<R> for Failure {
    fn from(reason: R) -> Failure {
        Failure { place: None, reason: reason.into() }
    }
}

/// A row with its place, not parsed yet, so that rows can be parsed in parallel.
#[derive(Clone, Debug)]
pub struct RawRow {
    /// Its line or its number in the file, from 1; the file's [`Unit`](super::Unit) says which.
    pub place: u64,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// JSON text, and what comes before it: lines, and characters on its first line.
    Text { text: Vec<u8>, before: Option<(usize, usize)> },
    #[cfg(feature = "parquet")]
    Cells { batch: std::sync::Arc<Batch>, row: usize },
}

impl RawRow {
    /// The text of a line.
    pub(super) fn line(place: u64, text: Vec<u8>) -> RawRow {
        RawRow { place, content: Content::Text { text, before: None } }
    }

    /// The text of an array's element, after so many lines and so many characters of its first line.
    pub(super) fn element(place: u64, text: Vec<u8>, before: (usize, usize)) -> RawRow {
        RawRow { place, content: Content::Text { text, before: Some(before) } }
    }

    /// A row of columns.
    #[cfg(feature = "parquet")]
    pub(super) fn cells(place: u64, batch: std::sync::Arc<Batch>, row: usize) -> RawRow {
        RawRow { place, content: Content::Cells { batch, row } }
    }

    /// The row's object, with its keys in their order; of columns, those that JSON has values for.
    ///
    /// # Errors
    /// For text that is not a JSON object, or that is read differently by different readers, and for cells that their
    /// columns' types do not allow.
    pub fn object(&self) -> Result<Map<String, Json>, JsonError> {
        match &self.content {
            Content::Text { text, before: None } => json::object(text),
            Content::Text { text, before: Some(before) } => json::object(text).map_err(|error| moved(error, *before)),
            #[cfg(feature = "parquet")]
            Content::Cells { batch, row } => batch.object(*row),
        }
    }
}

/// An error in an element, with its place in the file.
fn moved(error: JsonError, (lines, characters): (usize, usize)) -> JsonError {
    let line = error.line.unwrap_or(1);
    let column = error.column.map(|column| if line == 1 { column + characters } else { column });
    JsonError { line: Some(line + lines), column, ..error }
}
