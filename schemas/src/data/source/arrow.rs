//! Arrow's stream format, and its file format, which is the stream with an index behind it; both are read from their start
//! to their end. As `datasets` saves them.
//!
//! Lengths are checked here against what there is before the crate `arrow-ipc` takes memory for them.

use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::reader::{RecordBatchDecoder, read_dictionary};
use arrow_ipc::{Endianness, Message, root_as_message};
use arrow_schema::SchemaRef;

use super::cells::{Batch, Shape, Shapes};
use super::error::Reason;
use super::limits::LIMITS;
use super::row::{Chunk, Failure, RawRow};
use crate::guard::guarded;

const MARK: &[u8] = b"ARROW1";
const CONTINUATION: [u8; 4] = [0xff; 4];
/// Bytes of a message's description at most.
const MAX_DESCRIPTION: u64 = 1 << 26;
/// Bytes of a batch at most, and of all dictionaries, decompressed.
const MAX_BATCH: u64 = 1 << 29;
/// Rows of a batch that need no bytes behind them.
const MAX_EMPTY_ROWS: u64 = 1 << 16;
/// Rows of a batch at most.
const MAX_ROWS: i64 = i32::MAX as i64;

/// The batches of an Arrow file.
pub(super) struct Batches<R> {
    reader: R,
    /// Whether an index and a mark follow the stream.
    file: bool,
    schema: SchemaRef,
    columns: Vec<usize>,
    shape: Arc<Shape>,
    left_out: Vec<(String, String)>,
    dictionaries: HashMap<i64, ArrayRef>,
    /// Bytes of dictionaries by their ids.
    held: HashMap<i64, u64>,
    batch: Option<(Arc<Batch>, usize)>,
    row: u64,
    ended: bool,
}

impl<R: BufRead> Batches<R> {
    /// Reads the schema.
    pub(super) fn open(mut reader: R, file: bool) -> Result<Batches<R>, Reason> {
        if file {
            read_exactly(&mut reader, 8)?;
        }
        let (description, _) = message(&mut reader)?.ok_or(Reason::Cut("it has no schema"))?;
        let schema = guarded(|| schema(&description)).unwrap_or_else(|panic| Err(damaged(panic)))?;
        let shapes = Shapes::of(&schema, &[]).map_err(damaged)?;
        let mut columns = Vec::new();
        let Shape::Struct(fields) = shapes.shape else { return Err(damaged("it has no columns")) };
        let mut kept = Vec::new();
        for (index, field) in fields.into_iter().enumerate() {
            if !matches!(field.1, Shape::Absent) {
                columns.push(index);
                kept.push(field);
            }
        }
        Ok(Batches {
            reader,
            file,
            schema,
            columns,
            shape: Arc::new(Shape::Struct(kept)),
            left_out: shapes.left_out,
            dictionaries: HashMap::new(),
            held: HashMap::new(),
            batch: None,
            row: 0,
            ended: false,
        })
    }

    pub(super) fn left_out(&self) -> &[(String, String)] {
        &self.left_out
    }

    /// The next rows of a batch; none and no failure at the end.
    pub(super) fn chunk(&mut self) -> Chunk {
        loop {
            if let Some((batch, start)) = self.batch.take() {
                let end = batch.rows().min(start.saturating_add(LIMITS.rows));
                let mut rows = Vec::with_capacity(end - start);
                for row in start..end {
                    self.row = self.row.saturating_add(1);
                    rows.push(RawRow::cells(self.row, Arc::clone(&batch), row));
                }
                if end < batch.rows() {
                    self.batch = Some((batch, end));
                }
                if !rows.is_empty() {
                    return (rows, None);
                }
            }
            match self.next_batch() {
                Ok(Some(columns)) => self.batch = Some((Arc::new(Batch::new(columns, Arc::clone(&self.shape))), 0)),
                Ok(None) => return (Vec::new(), None),
                Err(reason) => {
                    self.ended = true;
                    return (Vec::new(), Some(Failure::from(reason)));
                }
            }
        }
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, Reason> {
        while !self.ended {
            let Some((description, body)) = message(&mut self.reader)? else {
                self.ended = true;
                return self.end().map(|()| None);
            };
            let taken = guarded(|| self.take(&description, body)).unwrap_or_else(|panic| Err(damaged(panic)))?;
            if taken.is_some() {
                return Ok(taken);
            }
        }
        Ok(None)
    }

    /// Takes a dictionary in, or gives a batch out.
    fn take(&mut self, description: &[u8], body: Vec<u8>) -> Result<Option<RecordBatch>, Reason> {
        let message = root_as_message(description).map_err(damaged)?;
        let version = message.version();
        if let Some(batch) = message.header_as_record_batch() {
            check(batch, &body)?;
            let body = body.into();
            let decoder =
                RecordBatchDecoder::try_new(&body, batch, Arc::clone(&self.schema), &self.dictionaries, &version);
            let decoder = decoder.map_err(damaged)?.with_projection(Some(&self.columns));
            return decoder.read_record_batch().map(Some).map_err(damaged);
        }
        let dictionary = message.header_as_dictionary_batch().ok_or_else(|| damaged("a message that is no batch"))?;
        let bytes = check(dictionary.data().ok_or_else(|| damaged("a dictionary without values"))?, &body)?;
        let before = if dictionary.isDelta() { self.held.get(&dictionary.id()).copied().unwrap_or(0) } else { 0 };
        self.held.insert(dictionary.id(), before.saturating_add(bytes));
        if self.held.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes)) > MAX_BATCH {
            return Err(large("set of dictionaries", MAX_BATCH));
        }
        read_dictionary(&body.into(), dictionary, &self.schema, &mut self.dictionaries, &version).map_err(damaged)?;
        Ok(None)
    }

    /// What must follow the stream's end: in a file, an index and the mark.
    fn end(&mut self) -> Result<(), Reason> {
        let mut last = Vec::new();
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            last.extend_from_slice(buffer.get(buffer.len().saturating_sub(MARK.len())..).unwrap_or_default());
            last.drain(..last.len().saturating_sub(MARK.len()));
            let read = buffer.len();
            self.reader.consume(read);
        }
        match (self.file, last.as_slice() == MARK, last.is_empty()) {
            (true, true, _) | (false, _, true) => Ok(()),
            (true, false, _) => Err(Reason::Cut("its index has no end")),
            (false, _, false) => Err(damaged("more follows the stream's end")),
        }
    }

    pub(super) fn into_inner(self) -> R {
        self.reader
    }
}

fn damaged(reason: impl ToString) -> Reason {
    Reason::Damaged { format: "Arrow", reason: reason.to_string() }
}

fn large(what: &str, most: u64) -> Reason {
    Reason::Large(format!("{what} is larger than {} MiB", most >> 20))
}

fn schema(description: &[u8]) -> Result<SchemaRef, Reason> {
    let message = root_as_message(description).map_err(damaged)?;
    let schema = message.header_as_schema().ok_or_else(|| damaged("it does not begin with a schema"))?;
    if schema.endianness() != Endianness::Little {
        return Err(damaged("its numbers are big-endian"));
    }
    Ok(Arc::new(arrow_ipc::convert::try_fb_to_schema(schema).map_err(damaged)?))
}

/// A message's description and body.
type Parts = (Vec<u8>, Vec<u8>);

/// The next message; none at the end.
fn message(reader: &mut impl BufRead) -> Result<Option<Parts>, Reason> {
    if reader.fill_buf()?.is_empty() {
        return Ok(None);
    }
    if read_array(reader)? != CONTINUATION {
        return Err(damaged("no message begins where one should"));
    }
    let length = i32::from_le_bytes(read_array(reader)?);
    let length = u64::try_from(length).map_err(|_| damaged(format!("a message of {length} bytes")))?;
    if length == 0 {
        return Ok(None);
    }
    if length > MAX_DESCRIPTION {
        return Err(large("message's description", MAX_DESCRIPTION));
    }
    let description = read_exactly(reader, length)?;
    let body = guarded(|| root_as_message(&description).as_ref().map(Message::bodyLength).map_err(damaged));
    let body = body.unwrap_or_else(|panic| Err(damaged(panic)))?;
    let body = u64::try_from(body).map_err(|_| damaged(format!("a batch of {body} bytes")))?;
    if body > MAX_BATCH {
        return Err(large("batch", MAX_BATCH));
    }
    let body = read_exactly(reader, body)?;
    Ok(Some((description, body)))
}

/// So many bytes; memory is taken as they come.
fn read_exactly(reader: &mut impl BufRead, bytes: u64) -> Result<Vec<u8>, Reason> {
    let mut read = Vec::new();
    reader.by_ref().take(bytes).read_to_end(&mut read)?;
    if read.len() as u64 == bytes { Ok(read) } else { Err(Reason::Cut("a batch has no end")) }
}

fn read_array(reader: &mut impl BufRead) -> Result<[u8; 4], Reason> {
    let read = read_exactly(reader, 4)?;
    read.try_into().map_err(|_| Reason::Cut("a batch has no end"))
}

/// Checks a batch's lengths against its body; returns its bytes once they are decompressed.
fn check(batch: arrow_ipc::RecordBatch<'_>, body: &[u8]) -> Result<u64, Reason> {
    let nodes = batch.nodes().into_iter().flatten();
    let lengths = nodes.flat_map(|node| [node.length(), node.null_count()]).chain([batch.length()]);
    if let Some(length) = lengths.into_iter().find(|length| !(0..=MAX_ROWS).contains(length)) {
        return Err(damaged(format!("a column of {length} rows")));
    }
    let mut bytes: u64 = 0;
    for buffer in batch.buffers().into_iter().flatten() {
        let (start, length) = (usize::try_from(buffer.offset()), usize::try_from(buffer.length()));
        let range = start.ok().zip(length.ok()).and_then(|(start, length)| Some(start..start.checked_add(length)?));
        let content = range.and_then(|range| body.get(range)).ok_or_else(|| damaged("a column beyond its batch"))?;
        let packed = content.first_chunk().filter(|_| batch.compression().is_some());
        let unpacked = packed.and_then(|length| u64::try_from(i64::from_le_bytes(*length)).ok());
        bytes = bytes.saturating_add(unpacked.unwrap_or(content.len() as u64));
    }
    // Columns of nothing but null take no bytes, however many rows they claim.
    let claimed = u64::try_from(batch.length()).unwrap_or(u64::MAX);
    if claimed > MAX_EMPTY_ROWS && claimed / 8 > bytes {
        return Err(damaged(format!("a batch of {claimed} rows in {bytes} bytes")));
    }
    if bytes > MAX_BATCH { Err(large("batch", MAX_BATCH)) } else { Ok(bytes) }
}
