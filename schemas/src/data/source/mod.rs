//! Files of rows: JSON lines or a JSON array, either also in gzip or zstd, Parquet, and Arrow's file and stream formats.
//! What a file is shows in its bytes, not in its name.
//!
//! A file is read once from its start to its end, a chunk at a time, and hashed on the way; what is held at a time is
//! bounded, whatever the file says of itself.

mod array;
#[cfg(feature = "parquet")]
mod arrow;
#[cfg(feature = "parquet")]
mod cells;
mod error;
mod file;
#[cfg(feature = "parquet")]
mod footer;
mod hashed;
mod limits;
mod lines;
#[cfg(feature = "parquet")]
mod parquet;
mod row;
mod sniff;
mod stream;

pub(super) use self::error::Place;
pub use self::error::{Reason, SourceError, Unit};
pub use self::file::RowFile;
pub use self::row::RawRow;
