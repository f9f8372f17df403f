//! Writes the states that are missing, one example after the other, so that the whole never stands in memory.

use std::collections::HashSet;
use std::fs::File;

use frostline_schemas::data::Example;
use frostline_schemas::digest::Digest;

use super::segment::{self, SegmentFile};
use super::states::{Cache, digest};
use crate::error::Error;

/// Takes the states that a [`Cache`] lacks. What has been committed when it is dropped stays, the rest is gone.
#[derive(Debug)]
pub struct StateWriter<'a> {
    cache: &'a mut Cache,
    rows: Vec<usize>,
    /// Digests of the tokens whose states are still to come.
    pending: HashSet<Digest>,
    /// Room that is reserved for them.
    reserved: u64,
    current: Option<SegmentFile>,
    /// No other run writes states of this key meanwhile.
    _lock: Option<File>,
}

impl Cache {
    /// Begins to write the states that are [missing](Cache::missing). Where another run is writing states of this key,
    /// waits until it is done, so that none is computed twice.
    ///
    /// # Errors
    /// [`Error::Cache`] where there is no room for them, even after the least recently used files that no run is using have
    /// been removed; [`Error::File`].
    pub fn writer(&mut self, examples: &[Example]) -> Result<StateWriter<'_>, Error> {
        StateWriter::new(self, examples)
    }
}

impl<'a> StateWriter<'a> {
    fn new(cache: &'a mut Cache, examples: &[Example]) -> Result<StateWriter<'a>, Error> {
        let mut rows = cache.missing(examples)?;
        let mut lock = None;
        if !rows.is_empty() {
            lock = Some(cache.store.lock_for_writing(&cache.key.entry(), &cache.key)?);
            // Another run may have written them meanwhile.
            rows = cache.missing(examples)?;
        }
        let pending = rows.iter().map(|&row| digest(&examples[row].tokens)).collect();
        let reserved = cache.bytes_needed(examples, &rows);
        let mut writer = StateWriter { cache, rows, pending, reserved, current: None, _lock: lock };
        if !writer.pending.is_empty() {
            let _lock = writer.cache.store.lock();
            writer.cache.store.make_room(reserved)?;
            writer.begin_segment()?;
        }
        Ok(writer)
    }

    /// Indices of the examples whose states are to be [added](StateWriter::add), in any order.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// Adds the state of an example with these tokens, [positions, hidden], as the bytes of its values. One that is there
    /// already or was not missing is passed over.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be written.
    pub fn add(&mut self, tokens: &[u32], state: &[u8]) -> Result<(), Error> {
        let (positions, row_bytes) = (tokens.len(), self.cache.key.row_bytes());
        if positions.checked_mul(row_bytes) != Some(state.len()) {
            return Err(Error::Internal("a state of [positions, hidden]"));
        }
        let tokens = digest(tokens);
        if !self.pending.remove(&tokens) {
            return Ok(());
        }
        let bytes = segment::bytes(positions, row_bytes);
        let full = |segment: &SegmentFile| {
            segment.bytes() > segment::OVERHEAD && segment.bytes().saturating_add(bytes) > self.cache.segment_bytes
        };
        if self.current.as_ref().is_some_and(full) {
            self.end_segment(true)?;
        }
        let segment = self.current.as_mut().ok_or(Error::Internal("a segment that was begun"))?;
        self.reserved = self.reserved.saturating_sub(bytes);
        segment.push(&tokens, positions, state).map_err(Error::file(self.cache.store.root()))
    }

    /// Commits what was added; the cache finds it from now on.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be written.
    pub fn finish(mut self) -> Result<(), Error> {
        self.end_segment(false)
    }

    /// Commits the current segment, if anything is in it, and begins the next if one is to come.
    fn end_segment(&mut self, another: bool) -> Result<(), Error> {
        let Some(mut segment) = self.current.take().filter(|segment| segment.bytes() > segment::OVERHEAD) else {
            return Ok(());
        };
        let failed = || Error::file(self.cache.store.root());
        segment.seal().map_err(failed())?;
        let _lock = self.cache.store.lock();
        let tokens = segment.tokens();
        let path = segment.commit().map_err(failed())?;
        self.cache.take_in(&path, &tokens);
        if another { self.begin_segment() } else { Ok(()) }
    }

    /// Begins a segment for all that is still to come. The root must be locked.
    fn begin_segment(&mut self) -> Result<(), Error> {
        let cache = &self.cache;
        // Anew, as it may have been cleared away meanwhile.
        let id = cache.key.entry();
        cache.store.make_folder(&id, &cache.key)?;
        let path = cache.store.new_file(&id);
        let segment = SegmentFile::create(path.clone(), &id.key, cache.key.row_bytes(), self.reserved);
        self.current = Some(segment.map_err(Error::file(path))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::cache::key::{CacheKey, StateDtype};
    use frostline_schemas::cache::{DEFAULT_LIMIT, Store};

    #[test]
    fn a_long_file_is_parted_and_what_is_committed_outlives_the_writer() {
        let root = tempfile::tempdir().unwrap();
        let key = CacheKey {
            family: "llama".parse().unwrap(),
            weights: Digest::of(b"weights"),
            config: Digest::of(b"config"),
            frost_line: 1,
            hidden: 2,
            dtype: StateDtype::F32,
            precision: "f32".into(),
        };
        let examples: Vec<Example> = (0..10).map(|row| Example::new(1, vec![row; 4], Vec::new())).collect();
        let store = Store::new(root.path(), DEFAULT_LIMIT);
        let state = |tokens: &[u32]| [tokens[0] as f32; 8].map(f32::to_ne_bytes).concat();
        let mut cache = Cache::new(store.clone(), key.clone());
        cache.segment_bytes = 400;
        let needed = cache.bytes_needed(&examples, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let mut writer = cache.writer(&examples).unwrap();
        for example in &examples[..6] {
            writer.add(&example.tokens, &state(&example.tokens)).unwrap();
        }
        // Two to a segment; the third segment is not ended yet.
        drop(writer);
        let mut next = Cache::new(store, key);
        assert_eq!(next.missing(&examples).unwrap(), [4, 5, 6, 7, 8, 9]);
        next.segment_bytes = 400;
        let mut writer = next.writer(&examples).unwrap();
        for example in &examples[4..] {
            writer.add(&example.tokens, &state(&example.tokens)).unwrap();
        }
        writer.finish().unwrap();
        assert!(examples.iter().all(|e| next.get(&e.tokens) == Some(&state(&e.tokens)[..])));
        assert_eq!(next.segments.len(), 5);
        let listed = crate::cache::list(root.path()).unwrap();
        assert!(listed[0].examples == 10 && listed[0].bytes <= needed, "{listed:?} {needed}");
    }
}
