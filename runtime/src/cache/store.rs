//! The cache's root: which folders and files in it are ours, how large and old they are, and how room is made.
//!
//! `states-<64 hexadecimal digits of the key>/` holds `key.json`, segments `<16 digits>.states`, temporary files of
//! segments that are being written, and `writing`, locked by the run that writes. Everything else is left alone.
//! A segment's time of modification is when it was last used; a lock on it says that it is in use. Whoever adds, takes
//! in or removes segments holds the lock on the root meanwhile. Locks fall with the process that holds them; where the
//! file system knows none, nothing is removed.

use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use frostline_schemas::canonical;
use frostline_schemas::digest::Digest;
use frostline_schemas::files;
use serde::{Deserialize, Serialize};

use super::key::CacheKey;
use super::segment;
use crate::error::Error;

const FOLDER_PREFIX: &str = "states-";
const SEGMENT_SUFFIX: &str = ".states";
const KEY_FILE: &str = "key.json";
const WRITING_FILE: &str = "writing";
const LOCK_FILE: &str = ".frostline.lock";
/// The largest `key.json` read, in bytes.
const MAX_KEY: u64 = 1 << 16;

/// `key.json`, for people and for [`list`].
#[derive(Serialize, Deserialize)]
struct KeyRecord {
    #[serde(flatten)]
    key: CacheKey,
    /// Seconds since 1970.
    created: u64,
}

/// What a file in a key's folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Segment,
    Temporary,
}

/// A file in a key's folder.
pub struct Piece {
    pub path: PathBuf,
    pub kind: Kind,
    bytes: u64,
    used: SystemTime,
}

/// A key in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Digest of the key.
    pub digest: Digest,
    /// The key, where its description can be read.
    pub key: Option<CacheKey>,
    pub examples: u64,
    /// Size on disk.
    pub bytes: u64,
    pub last_used: Option<SystemTime>,
}

/// What [`clear`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Keys of which nothing is left.
    pub keys: Vec<Digest>,
    /// Keys that a run is using, of which that is left.
    pub in_use: Vec<Digest>,
    /// Bytes that were removed.
    pub bytes: u64,
}

/// What lies below a root, ordered by key. Of a root that is not there, nothing.
///
/// # Errors
/// [`Error::File`] where a folder cannot be read.
pub fn list(root: &Path) -> Result<Vec<Listed>, Error> {
    let listed = key_folders(root)?.into_iter().map(|(digest, folder)| {
        let pieces = pieces(&folder).map_err(Error::file(&folder))?;
        let segments = pieces.iter().filter(|piece| piece.kind == Kind::Segment);
        Ok(Listed {
            digest,
            key: read_key(&folder).filter(|key| key.digest() == digest),
            examples: segments.clone().map(|piece| examples(&piece.path)).sum(),
            bytes: total(&pieces),
            last_used: segments.map(|piece| piece.used).max(),
        })
    });
    listed.collect()
}

/// Removes the states of the keys whose digests begin with one of these prefixes, or all where none is given, as far as
/// no run is using them. Files that are not the cache's stay.
///
/// # Errors
/// [`Error::CacheKey`] for a prefix of no key or of several, before anything is removed; [`Error::File`], also where the
/// cache may only be read.
pub fn clear(root: &Path, prefixes: &[String]) -> Result<Cleared, Error> {
    let mut folders = key_folders(root)?;
    // No lock file where there is nothing to be locked, least of all in a folder that is no cache.
    let _lock = if folders.is_empty() { None } else { Some(try_lock(root).map_err(Error::file(root))?) };
    folders.retain(|(_, folder)| folder.exists());
    let mut chosen = Vec::new();
    for prefix in prefixes {
        let begins = |digest: &Digest| digest.hex().starts_with(prefix) || digest.to_string().starts_with(prefix);
        let found: Vec<Digest> = folders.iter().map(|(digest, _)| *digest).filter(begins).collect();
        let [one] = found[..] else {
            return Err(Error::CacheKey { root: root.into(), prefix: prefix.clone(), found: found.len() });
        };
        chosen.push(one);
    }
    let mut cleared = Cleared::default();
    for (digest, folder) in folders {
        if prefixes.is_empty() || chosen.contains(&digest) {
            clear_folder(digest, &folder, &mut cleared)?;
        }
    }
    Ok(cleared)
}

fn clear_folder(digest: Digest, folder: &Path, cleared: &mut Cleared) -> Result<(), Error> {
    for piece in pieces(folder).map_err(Error::file(folder))? {
        if !in_use(&piece.path) {
            std::fs::remove_file(&piece.path).map_err(Error::file(&piece.path))?;
            cleared.bytes = cleared.bytes.saturating_add(piece.bytes);
        }
    }
    let keys = if remove_if_empty(folder) { &mut cleared.keys } else { &mut cleared.in_use };
    keys.push(digest);
    Ok(())
}

/// The folder of a key.
pub fn folder(root: &Path, key: &Digest) -> PathBuf {
    root.join(format!("{FOLDER_PREFIX}{}", key.hex()))
}

/// A name for a new segment that no other has.
pub fn new_segment(folder: &Path) -> PathBuf {
    // Each `RandomState` hashes with keys of its own, drawn from the system.
    folder.join(format!("{:016x}{SEGMENT_SUFFIX}", RandomState::new().hash_one(folder)))
}

/// Waits for the lock on the root; `None` where it cannot be had, as on a disk that is only read.
pub fn lock(root: &Path) -> Option<File> {
    try_lock(root).inspect_err(|error| tracing::debug!("{}: cannot be locked: {error}", root.display())).ok()
}

fn try_lock(root: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(root.join(LOCK_FILE))?;
    file.lock().map(|()| file)
}

/// Marks a segment as used now and locks it against removal; `None` where that cannot be done.
pub fn lock_in_use(path: &Path) -> Option<File> {
    let locked = OpenOptions::new().read(true).write(true).open(path).and_then(|file| {
        file.try_lock_shared()?;
        file.set_modified(SystemTime::now()).map(|()| file)
    });
    locked.inspect_err(|error| tracing::debug!("{}: cannot be locked: {error}", path.display())).ok()
}

/// Makes the folder of a key and waits for the turn to write into it. The turn ends when the file is dropped.
///
/// # Errors
/// [`Error::File`] where the folder cannot be made.
pub fn turn_to_write(root: &Path, key: &CacheKey) -> Result<File, Error> {
    std::fs::create_dir_all(root).map_err(Error::file(root))?;
    let (file, path) = {
        let _lock = lock(root);
        let path = make_folder(root, key)?.join(WRITING_FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        (file.map_err(Error::file(&path))?, path)
    };
    let locked = match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            tracing::info!("another run is computing states at this frost line; waiting for it");
            file.lock()
        }
        Err(TryLockError::Error(error)) => Err(error),
        Ok(()) => Ok(()),
    };
    if let Err(error) = locked {
        tracing::debug!("{}: cannot be locked: {error}", path.display());
    }
    Ok(file)
}

/// Makes the folder of a key and the description in it, where they are not there.
///
/// # Errors
/// [`Error::File`] where it cannot be made.
pub fn make_folder(root: &Path, key: &CacheKey) -> Result<PathBuf, Error> {
    let folder = folder(root, &key.digest());
    std::fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
    if read_key(&folder).as_ref() != Some(key) {
        let path = folder.join(KEY_FILE);
        let created = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let text = canonical::to_text(&KeyRecord { key: key.clone(), created });
        let written = text.map_err(io::Error::from).and_then(|text| files::write_bytes(&path, text.as_bytes()));
        written.map_err(Error::file(&path))?;
    }
    Ok(folder)
}

/// Removes what dead runs left, and the least recently used segments until `needed` more bytes fit the limit and the
/// disk. Removes no segment where they never will. The root must be locked.
///
/// # Errors
/// [`Error::CacheLimit`] and [`Error::CacheDisk`] where they do not fit.
pub fn make_room(root: &Path, needed: u64, limit: u64) -> Result<(), Error> {
    tidy(root)?;
    let mut idle = Vec::new();
    let mut used = 0;
    for (_, folder) in key_folders(root)? {
        for piece in pieces(&folder).map_err(Error::file(&folder))? {
            if in_use(&piece.path) { used = u64::saturating_add(used, piece.bytes) } else { idle.push(piece) }
        }
    }
    let mut removable = total(&idle);
    let mut free = fs4::available_space(root).map_err(Error::file(root))?;
    if needed.saturating_add(used) > limit {
        return Err(Error::CacheLimit { root: root.into(), needed, limit, in_use: used });
    }
    if needed > free.saturating_add(removable) {
        return Err(Error::CacheDisk { root: root.into(), needed, free: free.saturating_add(removable) });
    }
    idle.sort_by_key(|piece| std::cmp::Reverse(piece.used));
    while needed.saturating_add(used).saturating_add(removable) > limit || needed > free {
        let Some(oldest) = idle.pop() else {
            return Err(Error::CacheDisk { root: root.into(), needed, free });
        };
        std::fs::remove_file(&oldest.path).map_err(Error::file(&oldest.path))?;
        tracing::info!("{}: removed from the cache to make room", oldest.path.display());
        removable -= oldest.bytes;
        // Not asked of the disk again: some give room back late, and everything would go.
        free = free.saturating_add(oldest.bytes);
    }
    tidy(root)
}

/// Removes temporary files of runs that are no more, and folders in which nothing is left.
fn tidy(root: &Path) -> Result<(), Error> {
    for (_, folder) in key_folders(root)? {
        for piece in pieces(&folder).map_err(Error::file(&folder))? {
            if piece.kind == Kind::Temporary && !in_use(&piece.path) {
                std::fs::remove_file(&piece.path).map_err(Error::file(&piece.path))?;
            }
        }
        remove_if_empty(&folder);
    }
    Ok(())
}

/// Removes a key's folder if it holds no states and no run is about to write any; false where it does.
fn remove_if_empty(folder: &Path) -> bool {
    let empty = pieces(folder).is_ok_and(|pieces| pieces.is_empty());
    let writing = folder.join(WRITING_FILE);
    if !empty || (writing.exists() && in_use(&writing)) {
        return false;
    }
    for ours in [writing, folder.join(KEY_FILE)] {
        // They take next to nothing: what cannot be removed stays until the next time.
        let _ = std::fs::remove_file(ours);
    }
    // A folder with files of somebody else's stays.
    let _ = std::fs::remove_dir(folder);
    true
}

/// Whether some process, this one included, holds a lock on a file; true also where that cannot be known.
fn in_use(path: &Path) -> bool {
    let file = OpenOptions::new().read(true).write(true).open(path);
    !file.is_ok_and(|file| file.try_lock().is_ok())
}

/// The folders below a root that are named as this module names them, links excepted, in the order of their names.
fn key_folders(root: &Path) -> Result<Vec<(Digest, PathBuf)>, Error> {
    let ours = |entry: &std::fs::DirEntry| {
        let name = entry.file_name();
        let digest = Digest::from_hex(name.to_str()?.strip_prefix(FOLDER_PREFIX)?).ok()?;
        entry.file_type().is_ok_and(|kind| kind.is_dir()).then(|| (digest, entry.path()))
    };
    let entries = entries(root).map_err(Error::file(root))?;
    Ok(entries.iter().filter_map(ours).collect())
}

/// Segments and temporary files in a key's folder, in the order of their names. Of a folder that is not there, none.
pub fn pieces(folder: &Path) -> io::Result<Vec<Piece>> {
    let piece = |entry: &std::fs::DirEntry| {
        let kind = kind(entry.file_name().to_str()?)?;
        // Of the entry itself, not of what a link leads to. A file that has gone since it was listed is none.
        let metadata = entry.metadata().ok().filter(|metadata| metadata.is_file())?;
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Some(Piece { path: entry.path(), kind, bytes: metadata.len(), used })
    };
    Ok(entries(folder)?.iter().filter_map(piece).collect())
}

fn entries(folder: &Path) -> io::Result<Vec<std::fs::DirEntry>> {
    let mut entries = match folder.read_dir() {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    entries.sort_by_key(std::fs::DirEntry::file_name);
    Ok(entries)
}

/// What a file of this name is; `None` if it is not ours.
fn kind(name: &str) -> Option<Kind> {
    let digits = |text: &str| text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let segment = |name: &str| name.strip_suffix(SEGMENT_SUFFIX).is_some_and(digits);
    if segment(name) {
        return Some(Kind::Segment);
    }
    let file = files::temporary_of(name)?;
    (segment(file) || file == KEY_FILE).then_some(Kind::Temporary)
}

fn read_key(folder: &Path) -> Option<CacheKey> {
    let text = files::read_at_most(&folder.join(KEY_FILE), MAX_KEY).ok()?;
    serde_json::from_slice::<KeyRecord>(&text).ok().map(|record| record.key)
}

/// Examples in a segment; 0 where it is damaged.
fn examples(path: &Path) -> u64 {
    let records =
        files::map(path).ok().and_then(|map| segment::parse(&map).ok().map(|contents| contents.records.len()));
    records.unwrap_or(0) as u64
}

fn total(pieces: &[Piece]) -> u64 {
    pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.bytes))
}
