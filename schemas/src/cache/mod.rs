//! What is computed once and kept for later runs: one folder, one limit and one lock for planner and runtime.
//!
//! Below the root lies a folder `<content>-<64 hexadecimal digits>` for each [entry](EntryId). It holds `key.json`, which
//! describes the entry, files `<16 digits><suffix>`, temporary files of those that are being written, and `writing`,
//! locked by the run that writes. Everything else is left alone. The root itself holds `CACHEDIR.TAG` and the lock.
//!
//! A file's time of modification is when it was last used; a lock on it says that it is in use. Whoever adds, opens or
//! removes files holds the lock on the root meanwhile. Locks fall with the process that holds them; where the file system
//! knows none, nothing is removed. Nothing read is trusted: what fails its owner's check is [discarded](discard).

mod entry;
mod error;
mod layout;
mod list;
mod store;

use std::path::PathBuf;

pub use entry::{Content, EntryId};
pub use error::CacheError;
pub use list::{Cleared, Listed, clear, list};
pub use store::{Store, discard, lock_in_use};

/// Bytes that everything below a root takes at most, where nothing else is asked for: 20 GiB.
pub const DEFAULT_LIMIT: u64 = 20 << 30;

/// Frostline's folder in the platform's cache folder; none where the user has no home directory.
pub fn default_root() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("frostline"))
}
