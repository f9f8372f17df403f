//! Reads a JSONL file of rows, checks each and counts what was left out. Planner and runtime both read here, and so
//! agree.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::rows::{MAX_ROW, parse_row};
use crate::data::{Encoder, Example, Reading, RowError};
use crate::digest::{Digest, Hasher};
use crate::model::ModelFolder;

/// What is read before it is tokenised, in parallel.
const LIMITS: ChunkLimits = ChunkLimits { row: MAX_ROW, rows: 1 << 12, bytes: 1 << 26 };

/// The examples of a file.
#[derive(Clone, Debug)]
pub struct Examples {
    /// Those that have a target, in the order of their lines.
    pub examples: Vec<Example>,
    /// Rows in the file, those without a target included.
    pub rows: u64,
    /// Lines of rows that hold no target within the maximum length.
    pub without_targets: Vec<u64>,
    /// Lines of rows of which something was cut off, those that were left without a target included.
    pub truncated: Vec<u64>,
    /// Tokens of an example at most, as it was read.
    pub max_length: usize,
    /// SHA-256 of the file.
    pub digest: Digest,
}

/// Examples that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum ExampleError {
    /// The file is missing or unreadable.
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// One row is bad.
    #[error("{}:{line}: {reason}", path.display())]
    Row { path: PathBuf, line: u64, reason: RowError },
    /// The file has no rows.
    #[error("{}: holds no rows; one JSON object a line is expected", path.display())]
    Empty { path: PathBuf },
    /// No row has anything to predict.
    #[error("{}: none of {rows} rows has a target within the first {max_length} tokens; raise the maximum length", path.display())]
    NoTargets { path: PathBuf, rows: u64, max_length: usize },
}

impl ExampleError {
    /// The setting that caused the error or would cure it.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            ExampleError::NoTargets { .. } => Some("max_length"),
            ExampleError::Read { .. } | ExampleError::Row { .. } | ExampleError::Empty { .. } => None,
        }
    }
}

/// Reads all rows of a JSONL file. The first bad row is the error; nothing is skipped in silence.
pub fn read(path: &Path, reading: &Reading) -> Result<Examples, ExampleError> {
    let failed = |source| ExampleError::Read { path: path.into(), source };
    let row_failed = |line, reason| ExampleError::Row { path: path.into(), line, reason };
    let mut lines = Lines::new(File::open(path).map_err(failed)?, LIMITS);
    let mut out = Examples {
        examples: Vec::new(),
        rows: 0,
        without_targets: Vec::new(),
        truncated: Vec::new(),
        max_length: reading.max_length,
        digest: Digest::of(b""),
    };
    loop {
        let (chunk, too_long) = lines.chunk().map_err(failed)?;
        if chunk.is_empty() && too_long.is_none() {
            break;
        }
        out.rows += chunk.len() as u64;
        let examples: Vec<Result<Example, ExampleError>> = chunk
            .par_iter()
            .map(|(line, text)| parse_row(text, reading, *line).map_err(|reason| row_failed(*line, reason)))
            .collect();
        for example in examples {
            let example = example?;
            if example.cut {
                out.truncated.push(example.line);
            }
            if example.targets.is_empty() {
                out.without_targets.push(example.line);
            } else {
                out.examples.push(example);
            }
        }
        // Only now, so that the first bad row is the one reported.
        if let Some(line) = too_long {
            return Err(row_failed(line, RowError::TooLong));
        }
    }
    out.digest = lines.hasher.finish();
    match (out.rows, out.examples.len()) {
        (0, _) => Err(ExampleError::Empty { path: path.into() }),
        (rows, 0) => Err(ExampleError::NoTargets { path: path.into(), rows, max_length: reading.max_length }),
        _ => Ok(out),
    }
}

/// Reads a JSONL file of examples for this model, with at most `max_length` tokens each and never more than the
/// model has positions. Says in the log how many rows were cut or left out, and where the first of them stands.
///
/// # Errors
/// As for [`read`].
pub fn read_examples(
    model: &ModelFolder,
    encoder: &Encoder,
    path: &Path,
    max_length: usize,
) -> Result<Examples, ExampleError> {
    let max_length = max_length.min(model.config.max_positions);
    let reading = Reading { encoder, vocabulary: model.config.vocabulary, max_length };
    let read = read(path, &reading)?;
    if let Some(line) = read.without_targets.first() {
        let rows = read.without_targets.len();
        tracing::warn!(
            "{}: {rows} rows left out, the first on line {line}: no target within the first {max_length} tokens",
            path.display()
        );
    }
    if let Some(line) = read.truncated.first() {
        let rows = read.truncated.len();
        tracing::warn!("{}: {rows} rows cut off after {max_length} tokens, the first on line {line}", path.display());
    }
    Ok(read)
}

/// How much is held of a file at a time.
#[derive(Clone, Copy)]
struct ChunkLimits {
    /// Bytes of a row.
    row: u64,
    /// Rows of a chunk.
    rows: usize,
    /// Bytes of a chunk, but for its last row.
    bytes: usize,
}

/// A file's lines that are not blank, with their numbers, hashed as they are read.
struct Lines<R> {
    reader: BufReader<R>,
    hasher: Hasher,
    line: u64,
    limits: ChunkLimits,
}

/// Rows with their lines, and the line of the row after them if that one is too long to be read.
type Chunk = (Vec<(u64, Vec<u8>)>, Option<u64>);

impl<R: Read> Lines<R> {
    fn new(file: R, limits: ChunkLimits) -> Lines<R> {
        Lines { reader: BufReader::with_capacity(1 << 20, file), hasher: Hasher::default(), line: 0, limits }
    }

    /// The next rows; none and no line that is too long at the end of the file.
    fn chunk(&mut self) -> std::io::Result<Chunk> {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while chunk.len() < self.limits.rows && bytes < self.limits.bytes {
            let mut text = Vec::new();
            let read = self.reader.by_ref().take(self.limits.row + 1).read_until(b'\n', &mut text)?;
            if read == 0 {
                break;
            }
            self.line += 1;
            if read as u64 > self.limits.row {
                return Ok((chunk, Some(self.line)));
            }
            self.hasher.update(&text);
            if self.line == 1 && text.starts_with(b"\xef\xbb\xbf") {
                text.drain(..3);
            }
            if !text.iter().all(u8::is_ascii_whitespace) {
                bytes += text.len();
                chunk.push((self.line, text));
            }
        }
        Ok((chunk, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that repeats itself without an end.
    struct Endless(&'static [u8], usize);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            for byte in buffer.iter_mut() {
                *byte = self.0[self.1 % self.0.len()];
                self.1 += 1;
            }
            Ok(buffer.len())
        }
    }

    #[test]
    fn a_row_without_an_end_is_too_long_and_no_more_of_it_is_read() {
        let mut lines = Lines::new(Endless(b"x", 0), LIMITS);
        let (chunk, too_long) = lines.chunk().unwrap();
        assert_eq!((chunk.len(), too_long), (0, Some(1)));
    }

    #[test]
    fn the_rows_before_one_that_is_too_long_are_still_read() {
        let limits = ChunkLimits { row: 8, ..LIMITS };
        let (chunk, too_long) = Lines::new(&b"one\n\ntwo\nmuch too long\n"[..], limits).chunk().unwrap();
        let rows: Vec<u64> = chunk.iter().map(|(line, _)| *line).collect();
        assert_eq!((rows, too_long), (vec![1, 3], Some(4)));
    }

    #[test]
    fn a_chunk_is_bounded_by_its_bytes_and_by_its_rows() {
        let chunk = |limits| Lines::new(Endless(b"1234567\n", 0), limits).chunk().unwrap().0.len();
        assert_eq!(chunk(ChunkLimits { row: 8, rows: 100, bytes: 24 }), 3);
        assert_eq!(chunk(ChunkLimits { row: 8, rows: 2, bytes: 24 }), 2);
    }
}
