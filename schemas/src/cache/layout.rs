//! Which folders and files below a root are the cache's.

use std::fs::{DirEntry, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::entry::{Content, EntryId};
use super::error::CacheError;
use crate::files;

pub(super) const KEY_FILE: &str = "key.json";
pub(super) const WRITING_FILE: &str = "writing";
pub(super) const LOCK_FILE: &str = ".frostline.lock";
pub(super) const TAG_FILE: &str = "CACHEDIR.TAG";

/// A file in an entry's folder.
#[derive(Debug)]
pub(super) struct CachedFile {
    pub path: PathBuf,
    /// Whether it is one that is being written, or was by a run that is no more.
    pub temporary: bool,
    pub bytes: u64,
    pub used: SystemTime,
}

/// The entries below a root, each with its folder, in the order of the folders' names. Links are left out.
pub(super) fn entries(root: &Path) -> Result<Vec<(EntryId, PathBuf)>, CacheError> {
    let ours = |found: &DirEntry| {
        let id = EntryId::of_folder_name(found.file_name().to_str()?)?;
        found.file_type().is_ok_and(|kind| kind.is_dir()).then(|| (id, found.path()))
    };
    Ok(read_folder(root).map_err(CacheError::file(root))?.iter().filter_map(ours).collect())
}

/// An entry's files, temporary ones included, in the order of their names; none where the folder does not exist.
pub(super) fn files_of(folder: &Path, content: Content) -> Result<Vec<CachedFile>, CacheError> {
    let ours = |found: &DirEntry| {
        let temporary = is_temporary(found.file_name().to_str()?, content)?;
        // The metadata is the entry's own, not that of a link's target. A file that has vanished since it was listed is
        // left out.
        let metadata = found.metadata().ok().filter(|metadata| metadata.is_file())?;
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Some(CachedFile { path: found.path(), temporary, bytes: metadata.len(), used })
    };
    Ok(read_folder(folder).map_err(CacheError::file(folder))?.iter().filter_map(ours).collect())
}

fn read_folder(folder: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = match folder.read_dir() {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}

/// Whether a file of this name is a temporary one; `None` if it is not ours.
fn is_temporary(name: &str, content: Content) -> Option<bool> {
    let digits = |text: &str| text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let whole = |name: &str| name.strip_suffix(content.suffix()).is_some_and(digits);
    if whole(name) {
        return Some(false);
    }
    let file = files::temporary_of(name)?;
    (whole(file) || file == KEY_FILE).then_some(true)
}

/// A name for a new file of an entry that no other has.
pub(super) fn new_file(folder: &Path, content: Content) -> PathBuf {
    // Each `RandomState` hashes with keys of its own, drawn from the system.
    folder.join(format!("{:016x}{}", RandomState::new().hash_one(folder), content.suffix()))
}

/// Whether some process, this one included, holds a lock on a file; true also where that cannot be known.
pub(super) fn in_use(path: &Path) -> bool {
    let file = OpenOptions::new().read(true).write(true).open(path);
    !file.is_ok_and(|file| file.try_lock().is_ok())
}

/// Removes an entry's folder if it holds nothing and no run is about to write into it; false where it does.
pub(super) fn remove_if_empty(folder: &Path, content: Content) -> bool {
    let empty = files_of(folder, content).is_ok_and(|files| files.is_empty());
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

pub(super) fn total(files: &[CachedFile]) -> u64 {
    files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
}
