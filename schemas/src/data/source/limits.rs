//! How much is held of a file at a time.

/// The longest row read, in bytes.
pub(super) const MAX_ROW: u64 = 1 << 26;

/// The most white space between the rows of a file, in bytes.
pub(super) const MAX_BLANK: u64 = 1 << 26;

/// What is read before it is tokenised, in parallel.
pub(super) const LIMITS: ChunkLimits = ChunkLimits { row: MAX_ROW, rows: 1 << 12, bytes: 1 << 26 };

/// How much is held of a file at a time.
#[derive(Clone, Copy)]
pub(super) struct ChunkLimits {
    /// Bytes of a row.
    pub(super) row: u64,
    /// Rows of a chunk.
    pub(super) rows: usize,
    /// Bytes of a chunk, but for its last row.
    pub(super) bytes: usize,
}
