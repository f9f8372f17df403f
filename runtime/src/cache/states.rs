//! The states of one key, as this run sees them.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use frostline_schemas::cache::{Store, discard, lock_in_use};
use frostline_schemas::data::Example;
use frostline_schemas::digest::{Digest, Hasher};
use frostline_schemas::files;
use memmap2::Mmap;

use super::key::CacheKey;
use super::segment;
use crate::error::Error;

/// Bytes after which a segment is ended and the next begun: so much is lost at most when a run is killed.
const SEGMENT_BYTES: u64 = 1 << 30;

/// The states of one [`CacheKey`], memory-mapped. Segments in use are locked: no other run removes them.
#[derive(Debug)]
pub struct Cache {
    pub(super) store: Store,
    pub(super) key: CacheKey,
    pub(super) segment_bytes: u64,
    pub(super) segments: Vec<Segment>,
    states: HashMap<Digest, StoredState>,
}

#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    map: Mmap,
    /// Holds the lock.
    _lock: Option<File>,
}

#[derive(Debug)]
struct StoredState {
    segment: usize,
    bytes: Range<usize>,
    state: Digest,
    /// Whether the bytes are those that were written; looked at when they are first asked for.
    sound: OnceLock<bool>,
}

impl Cache {
    /// The states of a key in a store. Reads and writes nothing yet.
    pub fn new(store: Store, key: CacheKey) -> Cache {
        Cache { store, key, segment_bytes: SEGMENT_BYTES, segments: Vec::new(), states: HashMap::new() }
    }

    /// Finds the states of these examples. Returns the indices of those that have none, of equal ones the first.
    ///
    /// # Errors
    /// [`Error::Cache`] where the entry's folder exists and cannot be read.
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
        let states =
            lengths.fold(0, |sum: u64, positions| sum.saturating_add(segment::bytes(positions, self.key.row_bytes())));
        // A segment and its successor have more than `segment_bytes` together, or there would be no successor.
        let segments = 1 + states / self.segment_bytes.max(1) * 2;
        states.saturating_add(segments.saturating_mul(segment::OVERHEAD))
    }

    /// The state of an example with these tokens, [positions, hidden], as the bytes of its values. `None` where it is
    /// missing or was damaged since it was written.
    pub fn get(&self, tokens: &[u32]) -> Option<&[u8]> {
        let entry = self.states.get(&digest(tokens))?;
        let segment = self.segments.get(entry.segment)?;
        let bytes = segment.map.get(entry.bytes.clone())?;
        let size = tokens.len().checked_mul(self.key.row_bytes());
        let sound = || {
            let sound = size == Some(bytes.len()) && Digest::of(bytes) == entry.state;
            if !sound {
                discard(&segment.path, "a state is not as it was written");
            }
            sound
        };
        entry.sound.get_or_init(sound).then_some(bytes)
    }

    fn holds(&self, tokens: &Digest) -> bool {
        self.states.get(tokens).is_some_and(|entry| entry.sound.get() != Some(&false))
    }

    /// Takes in every segment that holds one of these and is not yet taken in.
    fn find(&mut self, wanted: &HashSet<Digest>) -> Result<(), Error> {
        let id = self.key.entry();
        if !self.store.folder(&id).exists() {
            return Ok(());
        }
        let _lock = self.store.lock();
        for path in self.store.files(&id)? {
            if !self.segments.iter().any(|segment| segment.path == path) {
                self.take_in(&path, wanted);
            }
        }
        Ok(())
    }

    /// Takes in a segment if it holds one of these that no other does. The root must be locked.
    pub(super) fn take_in(&mut self, path: &Path, wanted: &HashSet<Digest>) {
        let map = match files::map(path) {
            Ok(map) => map,
            Err(error) => return tracing::warn!("{}: cannot be read and is left out: {error}", path.display()),
        };
        let contents = match segment::parse(&map) {
            Ok(contents) if contents.key != self.key.digest() => return discard(path, "belongs to another key"),
            Ok(contents) if contents.row_bytes != self.key.row_bytes() as u64 => {
                return discard(path, "has another width");
            }
            Ok(contents) => contents,
            Err(reason) => return discard(path, reason),
        };
        let new = |tokens: &Digest| wanted.contains(tokens) && !self.holds(tokens);
        if !contents.records.iter().any(|record| new(&record.tokens)) {
            return;
        }
        let index = self.segments.len();
        self.segments.push(Segment { path: path.into(), map, _lock: lock_in_use(path) });
        for record in contents.records {
            if !self.holds(&record.tokens) {
                let state = StoredState {
                    segment: index,
                    bytes: record.bytes,
                    state: record.state,
                    sound: OnceLock::default(),
                };
                self.states.insert(record.tokens, state);
            }
        }
    }
}

/// What an example's state is found by.
pub(super) fn digest(tokens: &[u32]) -> Digest {
    let mut hasher = Hasher::default();
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    hasher.update_framed(&bytes);
    hasher.finish()
}
