//! Parquet: one row group after the other, some rows at a time, without the columns that rows leave out.
//!
//! What pages claim to hold is bounded here before the crate `parquet` takes memory for it: a few bytes can stand for very
//! many values.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_schema::{DataType, Field, Fields};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowGroups};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::{ConvertedType, LogicalType};
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length, SerializedPageReader};
use parquet::schema::types::ColumnDescriptor;

use super::cells::{Batch, Shape, Shapes};
use super::error::Reason;
use super::footer;
use super::limits::LIMITS;
use super::row::{Chunk, Failure, RawRow};
use crate::guard::guarded;

/// Rows decoded at a time, where they are not wide.
const ROWS: usize = 1024;
/// Values of a column decoded at a time, as far as the file tells.
const VALUES: i64 = 1 << 22;
/// Values of a column in the pages that one batch opens, at most.
const MAX_VALUES: u64 = 1 << 26;

/// The rows of a Parquet file.
pub(super) struct ParquetRows {
    /// None once reading ended or failed.
    reader: Option<ParquetRecordBatchReader>,
    /// Which batch is being read.
    batch: Arc<AtomicU64>,
    shape: Arc<Shape>,
    left_out: Vec<(String, String)>,
    row: u64,
    /// Rows, as the file says.
    rows: u64,
}

impl ParquetRows {
    /// Reads what a file of so many bytes says of itself.
    pub(super) fn open(mut file: File, size: u64) -> Result<ParquetRows, Reason> {
        footer::check(&footer_of(&mut file, size)?)?;
        guarded(|| open(Bounded { file, size })).unwrap_or_else(|panic| Err(damaged(panic)))
    }

    pub(super) fn left_out(&self) -> &[(String, String)] {
        &self.left_out
    }

    /// The next rows; none and no failure at the end.
    pub(super) fn chunk(&mut self) -> Chunk {
        let Some(mut reader) = self.reader.take() else { return (Vec::new(), None) };
        let failed = |reason| (Vec::new(), Some(Failure::from(damaged(reason))));
        self.batch.fetch_add(1, Ordering::Relaxed);
        match guarded(|| reader.next()) {
            Ok(Some(Ok(columns))) => {
                self.reader = Some(reader);
                let batch = Arc::new(Batch::new(columns, Arc::clone(&self.shape)));
                let rows = (0..batch.rows()).zip(self.row.saturating_add(1)..);
                let rows: Vec<RawRow> =
                    rows.map(|(row, place)| RawRow::cells(place, Arc::clone(&batch), row)).collect();
                self.row = self.row.saturating_add(rows.len() as u64);
                (rows, None)
            }
            Ok(None) if self.row == self.rows => (Vec::new(), None),
            Ok(None) => failed(format!("it holds {} rows and says that it holds {}", self.row, self.rows)),
            Ok(Some(Err(error))) => failed(error.to_string()),
            Err(panic) => failed(panic),
        }
    }
}

fn damaged(reason: impl ToString) -> Reason {
    let reason = reason.to_string();
    let reason = reason.strip_prefix("Parquet argument error: ").unwrap_or(&reason);
    let reason = reason.strip_prefix("Parquet error: ").unwrap_or(reason);
    Reason::Damaged { format: "Parquet", reason: reason.to_owned() }
}

/// The description at a file's end, which its length and the mark follow.
fn footer_of(file: &mut File, size: u64) -> Result<Vec<u8>, Reason> {
    let cut = Reason::Cut("it does not end as Parquet does");
    let Some(behind) = size.checked_sub(8) else { return Err(cut) };
    let mut last = [0; 8];
    file.seek(SeekFrom::Start(behind))?;
    file.read_exact(&mut last)?;
    let [a, b, c, d, mark @ ..] = last;
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    match (&mark, behind.checked_sub(length)) {
        (b"PAR1", Some(start)) => {
            let mut footer = Vec::new();
            file.seek(SeekFrom::Start(start))?;
            file.take(length).read_to_end(&mut footer)?;
            Ok(footer)
        }
        (b"PARE", _) => Err(Reason::Kind("Parquet with an encrypted footer".into())),
        _ => Err(cut),
    }
}

fn open(file: Bounded) -> Result<ParquetRows, Reason> {
    // Types are those of Parquet itself; what arrow adds to them is left aside.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let loaded = ArrowReaderMetadata::load(&file, options).map_err(damaged)?;
    let columns = loaded.parquet_schema().columns();
    let json: Vec<bool> = columns.iter().map(|column| is_json(column)).collect();
    let all = Shapes::of(loaded.schema(), &json).map_err(damaged)?;
    let kept: Vec<bool> = all.kept.iter().map(|&leaf| json.get(leaf).copied().unwrap_or(false)).collect();
    let mask = ProjectionMask::leaves(loaded.parquet_schema(), all.kept.iter().copied());
    let hint = viewed(&loaded.schema().fields);
    let levels = parquet_to_arrow_field_levels(loaded.parquet_schema(), mask, Some(&hint)).map_err(damaged)?;
    let pages = Pages::of(file, Arc::clone(loaded.metadata()))?;
    let size = batch_size(loaded.metadata());
    let reader = ParquetRecordBatchReader::try_new_with_row_groups(&levels, &pages, size, None).map_err(damaged)?;
    let shape = Shapes::of(&arrow_array::RecordBatchReader::schema(&reader), &kept).map_err(damaged)?.shape;
    let (batch, rows) = (pages.batch, pages.rows as u64);
    Ok(ParquetRows { reader: Some(reader), batch, shape: Arc::new(shape), left_out: all.left_out, row: 0, rows })
}

fn is_json(column: &ColumnDescriptor) -> bool {
    column.logical_type_ref() == Some(&LogicalType::Json) || column.converted_type() == ConvertedType::JSON
}

/// The same fields with views for texts, which share what dictionaries and pages hold instead of copying it for each row.
fn viewed(fields: &Fields) -> Fields {
    fields.iter().map(viewed_field).collect()
}

fn viewed_field(field: &Arc<Field>) -> Arc<Field> {
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::List(inner) => DataType::List(viewed_field(inner)),
        DataType::Struct(fields) => DataType::Struct(viewed(fields)),
        DataType::Map(entries, sorted) => DataType::Map(viewed_field(entries), *sorted),
        other => other.clone(),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// Rows of a batch, so that those of the widest row group come to no more bytes than a chunk has, and to no more values than
/// are decoded at a time.
fn batch_size(metadata: &ParquetMetaData) -> usize {
    let most = |group: &RowGroupMetaData| {
        let rows = group.num_rows().max(1);
        let values = group.columns().iter().map(|column| column.num_values()).max().unwrap_or(0);
        let by_bytes = LIMITS.bytes as i64 / (group.total_byte_size() / rows).max(1);
        by_bytes.min(VALUES / (values / rows).max(1))
    };
    let rows = metadata.row_groups().iter().map(most).min().unwrap_or(1);
    usize::try_from(rows).unwrap_or(1).clamp(1, ROWS)
}

/// The pages of a file's columns, whose values are counted.
struct Pages {
    file: Arc<Bounded>,
    metadata: Arc<ParquetMetaData>,
    rows: usize,
    batch: Arc<AtomicU64>,
}

impl Pages {
    fn of(file: Bounded, metadata: Arc<ParquetMetaData>) -> Result<Pages, Reason> {
        let rows = metadata.row_groups().iter().try_fold(0_usize, |sum, group| {
            usize::try_from(group.num_rows()).ok().and_then(|rows| sum.checked_add(rows))
        });
        let rows = rows.ok_or_else(|| damaged("a row group with a negative number of rows"))?;
        Ok(Pages { file: Arc::new(file), metadata, rows, batch: Arc::default() })
    }
}

impl RowGroups for Pages {
    fn num_rows(&self) -> usize {
        self.rows
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>, ParquetError> {
        let (file, metadata) = (Arc::clone(&self.file), Arc::clone(&self.metadata));
        let counted = Counted { batch: Arc::clone(&self.batch), seen: 0, values: 0 };
        Ok(Box::new(ColumnPages { file, metadata, column, group: 0, counted }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.metadata.row_groups().iter())
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// One column's pages, row group by row group.
struct ColumnPages {
    file: Arc<Bounded>,
    metadata: Arc<ParquetMetaData>,
    column: usize,
    group: usize,
    counted: Counted,
}

impl Iterator for ColumnPages {
    type Item = Result<Box<dyn PageReader>, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let group = self.metadata.row_groups().get(self.group)?;
        self.group += 1;
        let column = group.columns().get(self.column)?;
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let pages = SerializedPageReader::new(Arc::clone(&self.file), column, rows, None);
        Some(pages.map(|pages| Box::new(CountedPages { pages, counted: self.counted.clone() }) as Box<dyn PageReader>))
    }
}

impl PageIterator for ColumnPages {}

/// Counts a column's values within a batch.
#[derive(Clone)]
struct Counted {
    /// Which batch is being read, and which one the values belong to.
    batch: Arc<AtomicU64>,
    seen: u64,
    values: u64,
}

impl Counted {
    fn add(&mut self, values: u32) -> Result<(), ParquetError> {
        let batch = self.batch.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.seen, batch) != batch {
            self.values = 0;
        }
        self.values = self.values.saturating_add(values.into());
        if self.values > MAX_VALUES {
            return Err(ParquetError::General(format!(
                "more than {MAX_VALUES} values of a column in one batch of rows"
            )));
        }
        Ok(())
    }
}

/// A column's pages in a row group.
struct CountedPages {
    pages: SerializedPageReader<Bounded>,
    counted: Counted,
}

impl Iterator for CountedPages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CountedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let page = self.pages.get_next_page()?;
        if let Some(page) = &page {
            self.counted.add(page.num_values())?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        self.pages.at_record_boundary()
    }
}

/// A file that is not asked for more than it has.
struct Bounded {
    file: File,
    size: u64,
}

impl Length for Bounded {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Bounded {
    type T = <File as ChunkReader>::T;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        self.file.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes, ParquetError> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.size);
        end.ok_or_else(|| ParquetError::EOF("a column beyond the file's end".into()))?;
        self.file.get_bytes(start, length)
    }
}
