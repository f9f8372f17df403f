//! A file of states: a header (magic, version, bytes of a position, key), the states back to back, an index, and a trailer
//! with the index's length and a checksum of all but the states. Each state's own digest stands in the index.
//!
//! Integers are little-endian u64; states are f32 or bf16 in the byte order of the machine, both of which the key names.

use std::collections::HashSet;
use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;

use frostline_schemas::digest::{Digest, Hasher};
use frostline_schemas::files::Unfinished;

const MAGIC: &[u8; 16] = b"frostline-states";
const VERSION: u64 = 2;
/// Magic, version, bytes of a position, key.
const HEADER: usize = 16 + 8 + 8 + 32;
/// Digest of the tokens, digest of the state, positions.
const RECORD: usize = 32 + 32 + 8;
/// Number of records, SHA-256 of header, index and that number.
const TRAILER: usize = 8 + 32;

/// Bytes of a segment that holds nothing.
pub(super) const OVERHEAD: u64 = (HEADER + TRAILER) as u64;

/// Bytes that an example takes in a segment.
pub(super) fn bytes(positions: usize, row_bytes: usize) -> u64 {
    (positions as u64).saturating_mul(row_bytes as u64).saturating_add(RECORD as u64)
}

/// What a segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub key: Digest,
    /// Bytes of the state at one position.
    pub row_bytes: u64,
    pub records: Vec<Record>,
}

/// One state in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub tokens: Digest,
    pub state: Digest,
    /// Where in the file the state lies.
    pub bytes: Range<usize>,
}

/// Reads header and index, and checks that they are as they were written and account for every byte of the file. The
/// states themselves are not read.
///
/// # Errors
/// What is wrong.
pub(super) fn parse(file: &[u8]) -> Result<Contents, &'static str> {
    const SHORT: &str = "cut off";
    const BAD: &str = "its index is not as it was written";
    let (header, rest) = file.split_first_chunk::<HEADER>().ok_or(SHORT)?;
    let (header_magic, fields) = header.split_at(MAGIC.len());
    if header_magic != MAGIC {
        return Err("not a file of states");
    }
    let (version, fields) = number(fields).ok_or(SHORT)?;
    let (row_bytes, key) = number(fields).ok_or(SHORT)?;
    let (rest, trailer) = rest.split_last_chunk::<TRAILER>().ok_or(SHORT)?;
    let (count, checksum) = number(trailer).ok_or(SHORT)?;
    if version != VERSION {
        return Err("written in another format");
    }
    let index = usize::try_from(count).ok().and_then(|count| count.checked_mul(RECORD));
    let (states, index) = index.and_then(|index| rest.split_at_checked(rest.len().checked_sub(index)?)).ok_or(BAD)?;
    if checksum_of(header, index, count).as_bytes() != checksum {
        return Err(BAD);
    }
    let width = usize::try_from(row_bytes).map_err(|_| BAD)?;
    let (mut records, mut start) = (Vec::with_capacity(index.len() / RECORD), HEADER);
    for record in index.chunks_exact(RECORD) {
        let (tokens, record) = digest(record).ok_or(BAD)?;
        let (state, record) = digest(record).ok_or(BAD)?;
        let positions = number(record).and_then(|(positions, _)| usize::try_from(positions).ok());
        let bytes = positions.and_then(|positions| positions.checked_mul(width)).ok_or(BAD)?;
        let end = start.checked_add(bytes).ok_or(BAD)?;
        records.push(Record { tokens, state, bytes: start..end });
        start = end;
    }
    if start != HEADER + states.len() {
        return Err("its states are cut off or more than its index names");
    }
    Ok(Contents { key: digest(key).ok_or(SHORT)?.0, row_bytes, records })
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    bytes.split_first_chunk().map(|(number, rest)| (u64::from_le_bytes(*number), rest))
}

fn digest(bytes: &[u8]) -> Option<(Digest, &[u8])> {
    bytes.split_first_chunk().map(|(digest, rest)| (Digest::from_bytes(*digest), rest))
}

fn checksum_of(header: &[u8], index: &[u8], count: u64) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(header);
    hasher.update(index);
    hasher.update(&count.to_le_bytes());
    hasher.finish()
}

/// A segment that is being written, locked so that nobody takes it for a dead run's.
#[derive(Debug)]
pub(super) struct SegmentFile {
    file: Unfinished,
    header: Vec<u8>,
    index: Vec<u8>,
    /// Bytes of header and states so far.
    written: u64,
}

impl SegmentFile {
    /// Begins a segment. The file counts as `reserve` bytes long from the start, so that no other run takes that room.
    pub(super) fn create(path: PathBuf, key: &Digest, row_bytes: usize, reserve: u64) -> io::Result<SegmentFile> {
        let mut file = Unfinished::create(path)?;
        if let Err(error) = file.writer().get_ref().try_lock() {
            tracing::debug!("{}: cannot be locked: {error}", file.path().display());
        }
        file.writer().get_ref().set_len(reserve)?;
        let header = [&MAGIC[..], &VERSION.to_le_bytes(), &(row_bytes as u64).to_le_bytes(), key.as_bytes()].concat();
        file.writer().write_all(&header)?;
        Ok(SegmentFile { file, written: header.len() as u64, header, index: Vec::new() })
    }

    /// Bytes that the file would have if it ended here.
    pub(super) fn bytes(&self) -> u64 {
        self.written + (self.index.len() + TRAILER) as u64
    }

    /// Adds the state of an example, [positions · bytes of a position].
    pub(super) fn push(&mut self, tokens: &Digest, positions: usize, state: &[u8]) -> io::Result<()> {
        self.file.writer().write_all(state)?;
        self.written += state.len() as u64;
        self.index.extend(tokens.as_bytes());
        self.index.extend(Digest::of(state).as_bytes());
        self.index.extend((positions as u64).to_le_bytes());
        Ok(())
    }

    /// Digests of the tokens of all examples so far.
    pub(super) fn tokens(&self) -> HashSet<Digest> {
        self.index.chunks_exact(RECORD).filter_map(digest).map(|(tokens, _)| tokens).collect()
    }

    /// Writes what is still to be written and has it reach the disk.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        let count = (self.index.len() / RECORD) as u64;
        let checksum = checksum_of(&self.header, &self.index, count);
        let writer = self.file.writer();
        writer.write_all(&self.index)?;
        writer.write_all(&count.to_le_bytes())?;
        writer.write_all(checksum.as_bytes())?;
        writer.flush()?;
        writer.get_ref().sync_all()
    }

    /// Gives back what was reserved in vain and puts the sealed file in its place.
    pub(super) fn commit(mut self) -> io::Result<PathBuf> {
        let (bytes, path) = (self.bytes(), self.file.path().to_owned());
        self.file.writer().get_ref().set_len(bytes)?;
        self.file.commit()?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(states: &[Vec<f32>], hidden: usize) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let key = Digest::of(b"key");
        let mut segment = SegmentFile::create(folder.path().join("a.states"), &key, hidden * 4, 1 << 16).unwrap();
        for (row, state) in states.iter().enumerate() {
            segment.push(&Digest::of(&row.to_le_bytes()), state.len() / hidden, bytemuck::cast_slice(state)).unwrap();
        }
        segment.seal().unwrap();
        std::fs::read(segment.commit().unwrap()).unwrap()
    }

    fn states() -> impl Strategy<Value = (Vec<Vec<f32>>, usize)> {
        let states = |hidden: usize| {
            let state =
                (0..5usize).prop_flat_map(move |positions| prop::collection::vec(any::<f32>(), positions * hidden));
            prop::collection::vec(state, 0..6)
        };
        (1..5usize).prop_flat_map(move |hidden| (states(hidden), Just(hidden)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_state_is_found_again_bit_for_bit((states, hidden) in states()) {
            let file = written(&states, hidden);
            let contents = parse(&file).unwrap();
            prop_assert_eq!((contents.key, contents.row_bytes), (Digest::of(b"key"), hidden as u64 * 4));
            prop_assert_eq!(contents.records.len(), states.len());
            for (row, (record, state)) in contents.records.iter().zip(&states).enumerate() {
                let bytes = &file[record.bytes.clone()];
                prop_assert_eq!(record.tokens, Digest::of(&row.to_le_bytes()));
                prop_assert_eq!(bytes, bytemuck::cast_slice::<f32, u8>(state));
                prop_assert_eq!(Digest::of(bytes), record.state);
            }
        }

        #[test]
        fn a_change_outside_the_states_is_noticed((states, hidden) in states(), at: prop::sample::Index, by in 1..=255u8) {
            let mut file = written(&states, hidden);
            let first = parse(&file).unwrap().records.iter().map(|record| record.bytes.len()).sum::<usize>() + HEADER;
            let outside: Vec<usize> = (0..HEADER).chain(first..file.len()).collect();
            file[outside[at.index(outside.len())]] ^= by;
            prop_assert!(parse(&file).is_err());
        }

        #[test]
        fn another_length_is_noticed((states, hidden) in states(), cut in 1..200usize, more in 1..200usize) {
            let mut file = written(&states, hidden);
            prop_assert!(parse(&file[..file.len().saturating_sub(cut)]).is_err());
            file.splice(HEADER..HEADER, std::iter::repeat_n(0, more));
            prop_assert!(parse(&file).is_err());
        }

        /// With the right checksum, so that what is behind it is reached.
        #[test]
        fn no_index_panics(row_bytes: u64, count: u64, index: Vec<[u64; 9]>, states in 0..256usize, honest: bool) {
            let header = [&MAGIC[..], &VERSION.to_le_bytes(), &row_bytes.to_le_bytes(), &[0; 32]].concat();
            let count = if honest { index.len() as u64 } else { count };
            let index: Vec<u8> = index.concat().into_iter().flat_map(u64::to_le_bytes).collect();
            let checksum = checksum_of(&header, &index, count);
            let file = [&header[..], &vec![0; states], &index, &count.to_le_bytes(), checksum.as_bytes()].concat();
            let _ = parse(&file);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            prop_assert!(parse(&bytes).is_err());
        }
    }
}
