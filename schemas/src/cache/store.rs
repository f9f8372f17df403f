//! Adding to the cache: locks, folders, and room.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value as Json;

use super::entry::EntryId;
use super::error::CacheError;
use super::layout::{self, CachedFile, KEY_FILE, LOCK_FILE, TAG_FILE, WRITING_FILE, in_use, remove_if_empty, total};
use crate::{canonical, files};

/// The largest `key.json` read, in bytes.
const MAX_DESCRIPTION: u64 = 1 << 16;
/// When an entry was made, in its description; in seconds since 1970.
const CREATED: &str = "created";
/// What backup programs know a cache by: see <https://bford.info/cachedir/>.
const TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n\
    # This folder is a cache: what is missing in it is computed again.\n\
    # It was made by Frostline.\n";

/// A cache's folder, and the bytes that everything below it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    root: PathBuf,
    limit: u64,
}

impl Store {
    /// The cache below `root`, which may hold `limit` bytes in all. Reads and writes nothing yet.
    pub fn new(root: impl Into<PathBuf>, limit: u64) -> Store {
        Store { root: root.into(), limit }
    }

    /// The folder that everything lies in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of an entry, which may not exist.
    pub fn folder(&self, id: &EntryId) -> PathBuf {
        self.root.join(id.folder_name())
    }

    /// A path for a new file of an entry that no other has.
    pub fn new_file(&self, id: &EntryId) -> PathBuf {
        layout::new_file(&self.folder(id), id.content)
    }

    /// The path of the one file of an entry that never has more.
    pub fn only_file(&self, id: &EntryId) -> PathBuf {
        self.folder(id).join(format!("{:016x}{}", 0, id.content.suffix()))
    }

    /// An entry's files, in the order of their names; none where there is no such entry.
    ///
    /// # Errors
    /// [`CacheError::File`] where the folder exists and cannot be read.
    pub fn files(&self, id: &EntryId) -> Result<Vec<PathBuf>, CacheError> {
        let files = layout::files_of(&self.folder(id), id.content)?;
        Ok(files.into_iter().filter(|file| !file.temporary).map(|file| file.path).collect())
    }

    /// Waits for the lock on the root; `None` where it cannot be had, as on a disk that is only read.
    pub fn lock(&self) -> Option<File> {
        let root = &self.root;
        try_lock(root).inspect_err(|error| tracing::debug!("{}: cannot be locked: {error}", root.display())).ok()
    }

    /// Makes the folder of an entry and waits until no other run writes into it. None does before the file is dropped.
    ///
    /// # Errors
    /// [`CacheError::File`] where the folder cannot be made.
    pub fn lock_for_writing(&self, id: &EntryId, description: &impl Serialize) -> Result<File, CacheError> {
        self.make_root()?;
        let (file, path) = {
            let _lock = self.lock();
            let path = self.make_folder(id, description)?.join(WRITING_FILE);
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            (file.map_err(CacheError::file(&path))?, path)
        };
        let locked = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                tracing::info!("another run is computing the same {}; waiting for it", id.content.noun());
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

    /// Makes the root, and tags it as a cache where it holds nothing yet: a folder that has been something else before is
    /// not to be left out of backups.
    ///
    /// # Errors
    /// [`CacheError::File`] where it cannot be made.
    pub fn make_root(&self) -> Result<(), CacheError> {
        std::fs::create_dir_all(&self.root).map_err(CacheError::file(&self.root))?;
        let empty = self.root.read_dir().is_ok_and(|mut entries| entries.next().is_none());
        if empty && let Err(error) = files::write_bytes(&self.root.join(TAG_FILE), TAG) {
            tracing::debug!("{}: cannot be tagged as a cache: {error}", self.root.display());
        }
        Ok(())
    }

    /// Makes the folder of an entry and the description in it, where they do not exist.
    ///
    /// # Errors
    /// [`CacheError::File`] where it cannot be made.
    pub fn make_folder(&self, id: &EntryId, description: &impl Serialize) -> Result<PathBuf, CacheError> {
        let folder = self.folder(id);
        std::fs::create_dir_all(&folder).map_err(CacheError::file(&folder))?;
        let path = folder.join(KEY_FILE);
        let failed = |error: serde_json::Error| CacheError::File { path: path.clone(), source: error.into() };
        let mut description = serde_json::to_value(description).map_err(failed)?;
        if read_description(&folder).as_ref() != Some(&description) {
            let created = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
            if let Json::Object(fields) = &mut description {
                fields.insert(CREATED.into(), created.into());
            }
            let text = canonical::to_text(&description).map_err(failed)?;
            files::write_bytes(&path, text.as_bytes()).map_err(CacheError::file(&path))?;
        }
        Ok(folder)
    }

    /// Removes what dead runs left, and the least recently used files of whatever content until `needed` more bytes fit
    /// the limit and the disk. Removes no file where they never will. The root must be locked.
    ///
    /// # Errors
    /// [`CacheError::Limit`] and [`CacheError::Disk`] where they do not fit.
    pub fn make_room(&self, needed: u64) -> Result<(), CacheError> {
        let (root, limit) = (&self.root, self.limit);
        self.tidy()?;
        let (mut idle, used) = self.idle_and_used()?;
        let mut removable = total(&idle);
        let mut free = fs4::available_space(root).map_err(CacheError::file(root))?;
        if needed.saturating_add(used) > limit {
            return Err(CacheError::Limit { root: root.into(), needed, limit, in_use: used });
        }
        if needed > free.saturating_add(removable) {
            return Err(CacheError::Disk { root: root.into(), needed, free: free.saturating_add(removable) });
        }
        idle.sort_by_key(|file| std::cmp::Reverse(file.used));
        while needed.saturating_add(used).saturating_add(removable) > limit || needed > free {
            let Some(oldest) = idle.pop() else {
                return Err(CacheError::Disk { root: root.into(), needed, free });
            };
            std::fs::remove_file(&oldest.path).map_err(CacheError::file(&oldest.path))?;
            tracing::info!("{}: removed from the cache to make room", oldest.path.display());
            removable -= oldest.bytes;
            // Not asked of the disk again: some give room back late, and everything would go.
            free = free.saturating_add(oldest.bytes);
        }
        self.tidy()
    }

    /// The files that no run is using, and the bytes of the others.
    fn idle_and_used(&self) -> Result<(Vec<CachedFile>, u64), CacheError> {
        let (mut idle, mut used) = (Vec::new(), 0);
        for (id, folder) in layout::entries(&self.root)? {
            for file in layout::files_of(&folder, id.content)? {
                if in_use(&file.path) { used = u64::saturating_add(used, file.bytes) } else { idle.push(file) }
            }
        }
        Ok((idle, used))
    }

    /// Removes temporary files of runs that are no more, and folders in which nothing is left.
    fn tidy(&self) -> Result<(), CacheError> {
        for (id, folder) in layout::entries(&self.root)? {
            for file in layout::files_of(&folder, id.content)? {
                if file.temporary && !in_use(&file.path) {
                    std::fs::remove_file(&file.path).map_err(CacheError::file(&file.path))?;
                }
            }
            remove_if_empty(&folder, id.content);
        }
        Ok(())
    }
}

/// Waits for the lock on a root.
pub(super) fn try_lock(root: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(root.join(LOCK_FILE))?;
    file.lock().map(|()| file)
}

/// Marks a file as used now and locks it against removal until the lock is dropped; `None` where that cannot be done.
pub fn lock_in_use(path: &Path) -> Option<File> {
    let locked = OpenOptions::new().read(true).write(true).open(path).and_then(|file| {
        file.try_lock_shared()?;
        file.set_modified(SystemTime::now()).map(|()| file)
    });
    locked.inspect_err(|error| tracing::debug!("{}: cannot be locked: {error}", path.display())).ok()
}

/// Removes a file that is not to be trusted, with a warning that gives the reason.
pub fn discard(path: &Path, reason: &str) {
    tracing::warn!("{}: {reason}; it is removed and computed again", path.display());
    if let Err(error) = std::fs::remove_file(path) {
        tracing::debug!("{}: cannot be removed: {error}", path.display());
    }
}

/// What an entry's writer says of its key; `None` where that cannot be read.
pub(super) fn read_description(folder: &Path) -> Option<Json> {
    let text = files::read_at_most(&folder.join(KEY_FILE), MAX_DESCRIPTION).ok()?;
    let mut description = serde_json::from_slice::<serde_json::Map<String, Json>>(&text).ok()?;
    description.remove(CREATED);
    Some(Json::Object(description))
}
