//! The boundary cache: the state at the frost line of each example, computed once and kept on disk for later epochs and
//! later runs.
//!
//! Below the cache's root lies a folder for each [`CacheKey`], in it the states of many examples to a segment. A state
//! is found by its tokens, so data sets that share rows share their states. Nothing read is trusted: what fails a check
//! is warned of, removed and counted as missing.

mod key;
mod segment;
pub mod source;
mod store;
mod writer;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use frostline_schemas::data::Example;
use frostline_schemas::digest::{Digest, Hasher};
use frostline_schemas::files;
use memmap2::Mmap;

use crate::error::Error;

pub use key::CacheKey;
pub use store::{Cleared, Listed, clear, list};
pub use writer::StateWriter;

/// Bytes that all caches below a root take at most, where nothing else is asked for: 20 GiB.
pub const DEFAULT_LIMIT: u64 = 20 << 30;
/// Bytes after which a segment is ended and the next begun: so much is lost at most when a run is killed.
const SEGMENT_BYTES: u64 = 1 << 30;

/// Where caches are kept unless another place is named: `frostline` in the platform's cache folder.
///
/// # Errors
/// [`Error::NoCacheFolder`] where the user has no home directory.
pub fn default_root() -> Result<PathBuf, Error> {
    frostline_schemas::cache_folder::default_root().ok_or(Error::NoCacheFolder)
}

/// The states of one [`CacheKey`], memory-mapped. Segments in use are locked: no other run removes them.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    key: CacheKey,
    limit: u64,
    segment_bytes: u64,
    segments: Vec<Segment>,
    entries: HashMap<Digest, Entry>,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    map: Mmap,
    /// Holds the lock.
    _lock: Option<File>,
}

#[derive(Debug)]
struct Entry {
    segment: usize,
    bytes: Range<usize>,
    state: Digest,
    /// Whether the bytes are those that were written; looked at when they are first asked for.
    sound: OnceLock<bool>,
}

impl Cache {
    /// The cache of a key below `root`, which may hold `limit` bytes in all. Reads and writes nothing yet.
    pub fn new(root: &Path, key: CacheKey, limit: u64) -> Cache {
        let (segments, entries) = (Vec::new(), HashMap::new());
        Cache { root: root.into(), key, limit, segment_bytes: SEGMENT_BYTES, segments, entries }
    }

    /// Finds the states of these examples. Returns the indices of those that have none, of equal ones the first.
    ///
    /// # Errors
    /// [`Error::File`] where the cache's folder is there but cannot be read.
    pub fn missing(&mut self, examples: &[Example]) -> Result<Vec<usize>, Error> {
        let tokens: Vec<Digest> = examples.iter().map(|example| digest(&example.tokens)).collect();
        if !tokens.iter().all(|tokens| self.holds(tokens)) {
            self.find(&tokens.iter().copied().collect())?;
        }
        let mut seen = HashSet::new();
        let missing = |&row: &usize| !self.holds(&tokens[row]) && seen.insert(tokens[row]);
        Ok((0..tokens.len()).filter(missing).collect())
    }

    /// Bytes on disk that the states of these rows take.
    pub fn bytes_needed(&self, examples: &[Example], rows: &[usize]) -> u64 {
        let lengths = rows.iter().filter_map(|&row| examples.get(row)).map(|example| example.tokens.len());
        let states = lengths.fold(0, |sum: u64, places| sum.saturating_add(segment::bytes(places, self.key.hidden)));
        // A segment and its successor have more than `segment_bytes` together, or there would be no successor.
        let segments = 1 + states / self.segment_bytes.max(1) * 2;
        states.saturating_add(segments.saturating_mul(segment::OVERHEAD))
    }

    /// Begins to write the states that are [missing](Cache::missing). Where another run is writing states of this key,
    /// waits until it is done, so that none is computed twice.
    ///
    /// # Errors
    /// [`Error::CacheLimit`] and [`Error::CacheDisk`] where there is no room for them, even after the least recently
    /// used segments that no run is using have been removed; [`Error::File`].
    pub fn writer(&mut self, examples: &[Example]) -> Result<StateWriter<'_>, Error> {
        StateWriter::new(self, examples)
    }

    /// The state of an example with these tokens, [places · hidden]. `None` where it is missing or was damaged since it
    /// was written.
    pub fn get(&self, tokens: &[u32]) -> Option<&[f32]> {
        let entry = self.entries.get(&digest(tokens))?;
        let segment = self.segments.get(entry.segment)?;
        let bytes = segment.map.get(entry.bytes.clone())?;
        let size = tokens.len().checked_mul(self.key.hidden).and_then(|floats| floats.checked_mul(size_of::<f32>()));
        let sound = || {
            let sound = size == Some(bytes.len()) && Digest::of(bytes) == entry.state;
            if !sound {
                discard(&segment.path, "a state is not as it was written");
            }
            sound
        };
        if !entry.sound.get_or_init(sound) {
            return None;
        }
        bytemuck::try_cast_slice(bytes).ok()
    }

    fn holds(&self, tokens: &Digest) -> bool {
        self.entries.get(tokens).is_some_and(|entry| entry.sound.get() != Some(&false))
    }

    /// Takes in every segment that holds one of these and is not yet taken in.
    fn find(&mut self, wanted: &HashSet<Digest>) -> Result<(), Error> {
        let folder = store::folder(&self.root, &self.key.digest());
        if !folder.exists() {
            return Ok(());
        }
        let _lock = store::lock(&self.root);
        for piece in store::pieces(&folder).map_err(Error::file(&folder))? {
            let known = self.segments.iter().any(|segment| segment.path == piece.path);
            if piece.kind == store::Kind::Segment && !known {
                self.take_in(&piece.path, wanted);
            }
        }
        Ok(())
    }

    /// Takes in a segment if it holds one of these that no other does. The root must be locked.
    fn take_in(&mut self, path: &Path, wanted: &HashSet<Digest>) {
        let map = match files::map(path) {
            Ok(map) => map,
            Err(error) => return tracing::warn!("{}: cannot be read and is left out: {error}", path.display()),
        };
        let contents = match segment::parse(&map) {
            Ok(contents) if contents.key != self.key.digest() => return discard(path, "belongs to another key"),
            Ok(contents) if contents.hidden != self.key.hidden as u64 => return discard(path, "has another width"),
            Ok(contents) => contents,
            Err(reason) => return discard(path, reason),
        };
        let new = |tokens: &Digest| wanted.contains(tokens) && !self.holds(tokens);
        if !contents.records.iter().any(|record| new(&record.tokens)) {
            return;
        }
        let index = self.segments.len();
        self.segments.push(Segment { path: path.into(), map, _lock: store::lock_in_use(path) });
        for record in contents.records {
            if !self.holds(&record.tokens) {
                let entry =
                    Entry { segment: index, bytes: record.bytes, state: record.state, sound: OnceLock::default() };
                self.entries.insert(record.tokens, entry);
            }
        }
    }
}

/// What an example's state is found by.
fn digest(tokens: &[u32]) -> Digest {
    let mut hasher = Hasher::default();
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    hasher.update_framed(&bytes);
    hasher.finish()
}

/// Removes a segment that is not to be trusted.
fn discard(path: &Path, reason: &str) {
    tracing::warn!("{}: {reason}; it is removed and its states are computed anew", path.display());
    if let Err(error) = std::fs::remove_file(path) {
        tracing::debug!("{}: cannot be removed: {error}", path.display());
    }
}
