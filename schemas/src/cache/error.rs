//! What can go wrong with the cache.

use std::path::PathBuf;

use crate::units::bytes as size;

/// Why something cannot be kept, listed or cleared.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// More than the cache may take, or than it may take beside what other runs are using.
    #[error(
        "{}: what is to be cached takes {}, but the cache may hold {}{}",
        root.display(),
        size(*needed),
        size(*limit),
        if *in_use > 0 { format!(", of which {} are in use", size(*in_use)) } else { String::new() }
    )]
    Limit {
        /// The cache's folder.
        root: PathBuf,
        /// Bytes to be added.
        needed: u64,
        /// Bytes that may be there in all.
        limit: u64,
        /// Bytes that runs are using.
        in_use: u64,
    },
    /// More than the disk has room for.
    #[error("{}: what is to be cached takes {}, but the disk has room for {}", root.display(), size(*needed), size(*free))]
    Disk {
        /// The cache's folder.
        root: PathBuf,
        /// Bytes to be added.
        needed: u64,
        /// Bytes that are free, or would be if all that no run is using were removed.
        free: u64,
    },
    /// The beginning of no key, or of several.
    #[error("{}: {} keys begin with `{prefix}`", root.display(), if *found == 0 { "no".into() } else { found.to_string() })]
    Key {
        /// The cache's folder.
        root: PathBuf,
        /// What was given.
        prefix: String,
        /// How many keys begin so.
        found: usize,
    },
}

impl CacheError {
    /// For `map_err` on the reading or writing of a file.
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> CacheError {
        let path = path.into();
        move |source| CacheError::File { path, source }
    }

    /// The setting that caused the error or would cure it.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            CacheError::Limit { .. } => Some("cache_limit"),
            CacheError::Disk { .. } => Some("cache"),
            CacheError::Key { .. } => Some("cache_key"),
            CacheError::File { .. } => None,
        }
    }
}
