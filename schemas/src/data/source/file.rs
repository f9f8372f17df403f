//! A file of rows, whatever its format.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::array::Elements;
#[cfg(feature = "parquet")]
use super::arrow::Batches;
use super::error::{Reason, SourceError, Unit};
use super::hashed::Hashed;
use super::limits::LIMITS;
use super::lines::Lines;
#[cfg(feature = "parquet")]
use super::parquet::ParquetRows;
use super::row::{Chunk, Failure, RawRow};
use super::sniff::{self, Format, Layout};
use super::stream::{Stream, Text};
use crate::digest::Digest;

/// Keys under which an object holds a data set's rows, rather than being one.
const HOLDERS: [&str; 8] = ["data", "rows", "train", "examples", "instances", "records", "items", "dataset"];

/// The rows of a file, in chunks, hashed as they are read.
pub struct RowFile {
    path: PathBuf,
    rows: Rows,
    /// What is reported once the rows before it were.
    failed: Option<SourceError>,
    first: bool,
}

enum Rows {
    Lines(Lines<Text>),
    Elements(Elements<Text>),
    #[cfg(feature = "parquet")]
    Arrow(Box<Batches<std::io::BufReader<Hashed>>>),
    #[cfg(feature = "parquet")]
    Parquet(Box<ParquetRows>, Hashed),
}

impl RowFile {
    /// Opens a file and finds out by its first bytes what it is.
    ///
    /// # Errors
    /// For a file that is missing, no regular file, in no format that holds rows, or damaged where it says what it holds.
    pub fn open(path: &Path) -> Result<RowFile, SourceError> {
        let rows = Rows::open(path).map_err(|reason| SourceError { path: path.into(), place: None, reason })?;
        Ok(RowFile { path: path.into(), rows, failed: None, first: true })
    }

    /// The next rows; none at the end of the file. At most 4096 of them, and 64 MiB but for the last one; of an Arrow file
    /// one batch is held, however large.
    ///
    /// # Errors
    /// For a file that is damaged, cut short, or no longer what it was; once the rows before that place were given out.
    pub fn chunk(&mut self) -> Result<Vec<RawRow>, SourceError> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        let (mut rows, mut failure) = self.rows.chunk();
        if std::mem::replace(&mut self.first, false)
            && failure.is_none()
            && matches!(self.rows, Rows::Lines(_))
            && let Some(reason) = only_row(&rows).and_then(nested)
        {
            (rows, failure) = (Vec::new(), Some(reason.into()));
        }
        let unit = self.unit();
        let failed = failure.map(|Failure { place, reason }| SourceError {
            path: self.path.clone(),
            place: place.map(|place| (unit, place)),
            reason,
        });
        match failed {
            Some(failed) if rows.is_empty() => Err(failed),
            failed => {
                self.failed = failed;
                Ok(rows)
            }
        }
    }

    /// The SHA-256 of the file's bytes as they lie on the disk, as `sha256sum` prints it. What was not read yet is read for
    /// it.
    ///
    /// # Errors
    /// For a file that cannot be read, or that was written to since it was opened.
    pub fn digest(self) -> Result<Digest, SourceError> {
        let digest = self.rows.into_file().digest();
        digest.map_err(|reason| SourceError { path: self.path, place: None, reason })
    }

    /// How the file's rows are counted.
    pub fn unit(&self) -> Unit {
        match self.rows {
            Rows::Lines(_) => Unit::Line,
            _ => Unit::Row,
        }
    }

    /// Columns and fields of Parquet and Arrow files that rows lack, since JSON has no values of their types, with the
    /// types' names: images and other bytes, dates, times, decimals.
    pub fn left_out(&self) -> &[(String, String)] {
        match &self.rows {
            Rows::Lines(_) | Rows::Elements(_) => &[],
            #[cfg(feature = "parquet")]
            Rows::Arrow(batches) => batches.left_out(),
            #[cfg(feature = "parquet")]
            Rows::Parquet(groups, _) => groups.left_out(),
        }
    }
}

impl Rows {
    fn open(path: &Path) -> Result<Rows, Reason> {
        let mut file = Hashed::open(path)?;
        match sniff::format(&file.head()?) {
            Format::Text => Rows::text(Stream::Plain(file), None),
            Format::Gzip => Rows::text(Stream::gzip(file), Some("gzip")),
            Format::Zstd => Rows::text(Stream::zstd(file)?, Some("zstd")),
            #[cfg(feature = "parquet")]
            Format::Parquet => Ok(Rows::Parquet(Box::new(ParquetRows::open(file.handle()?, file.size())?), file)),
            #[cfg(feature = "parquet")]
            format @ (Format::ArrowFile | Format::ArrowStream) => {
                let reader = std::io::BufReader::with_capacity(1 << 20, file);
                Ok(Rows::Arrow(Box::new(Batches::open(reader, format == Format::ArrowFile)?)))
            }
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => Err(Reason::NoParquet("a Parquet file")),
            #[cfg(not(feature = "parquet"))]
            Format::ArrowFile | Format::ArrowStream => Err(Reason::NoParquet("an Arrow file")),
        }
    }

    fn text(stream: Stream, packed: Option<&str>) -> Result<Rows, Reason> {
        let (text, head) = stream.text()?;
        Ok(match sniff::layout(&head, packed)? {
            Layout::Lines => Rows::Lines(Lines::new(text, LIMITS)),
            Layout::Array => Rows::Elements(Elements::new(text, LIMITS)),
        })
    }

    fn chunk(&mut self) -> Chunk {
        match self {
            Rows::Lines(lines) => lines.chunk(),
            Rows::Elements(elements) => elements.chunk(),
            #[cfg(feature = "parquet")]
            Rows::Arrow(batches) => batches.chunk(),
            #[cfg(feature = "parquet")]
            Rows::Parquet(groups, _) => groups.chunk(),
        }
    }

    fn into_file(self) -> Hashed {
        let beneath = |text: Text| text.into_inner().into_inner().1.into_file();
        match self {
            Rows::Lines(lines) => beneath(lines.into_inner()),
            Rows::Elements(elements) => beneath(elements.into_inner()),
            #[cfg(feature = "parquet")]
            Rows::Arrow(batches) => batches.into_inner().into_inner(),
            #[cfg(feature = "parquet")]
            Rows::Parquet(_, file) => file,
        }
    }
}

fn only_row(rows: &[RawRow]) -> Option<&RawRow> {
    match rows {
        [row] => Some(row),
        _ => None,
    }
}

/// A file's only row may be an object that holds the rows, and little else.
fn nested(row: &RawRow) -> Option<Reason> {
    let object = row.object().ok().filter(|object| object.len() <= 2)?;
    let holds = |key: &&&str| match object.get(**key) {
        Some(Json::Array(rows)) => rows.first().is_some_and(Json::is_object),
        _ => false,
    };
    HOLDERS.iter().find(holds).map(|key| Reason::Nested((*key).to_owned()))
}
