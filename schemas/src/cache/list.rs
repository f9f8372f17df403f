//! What a cache holds, and clearing it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value as Json;

use super::entry::EntryId;
use super::error::CacheError;
use super::layout::{self, total};
use super::store;
use crate::digest::Digest;

/// An entry of the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// What it is.
    pub id: EntryId,
    /// What its writer says of its key, where that can be read.
    pub description: Option<Json>,
    /// Its files that are whole.
    pub files: Vec<PathBuf>,
    /// Size on disk.
    pub bytes: u64,
    /// When any of its files was last used.
    pub last_used: Option<SystemTime>,
}

/// What [`clear`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Entries of which nothing is left.
    pub removed: Vec<EntryId>,
    /// Entries that a run is using, of which that is left.
    pub in_use: Vec<EntryId>,
    /// Bytes that were removed.
    pub bytes: u64,
}

/// What lies below a root, ordered by content and key; nothing where the root does not exist.
///
/// # Errors
/// [`CacheError::File`] where a folder cannot be read.
pub fn list(root: &Path) -> Result<Vec<Listed>, CacheError> {
    let listed = layout::entries(root)?.into_iter().map(|(id, folder)| {
        let files = layout::files_of(&folder, id.content)?;
        let whole = files.iter().filter(|file| !file.temporary);
        Ok(Listed {
            id,
            description: store::read_description(&folder),
            files: whole.clone().map(|file| file.path.clone()).collect(),
            bytes: total(&files),
            last_used: whole.map(|file| file.used).max(),
        })
    });
    let mut listed = listed.collect::<Result<Vec<_>, CacheError>>()?;
    listed.sort_by_key(|listed| listed.id);
    Ok(listed)
}

/// Removes the entries whose keys begin with one of these prefixes, or all where none is given, as far as no run is using
/// them. Files that are not the cache's stay.
///
/// # Errors
/// [`CacheError::Key`] for a prefix of no key or of several, before anything is removed; [`CacheError::File`], also where
/// the cache may only be read.
pub fn clear(root: &Path, prefixes: &[String]) -> Result<Cleared, CacheError> {
    let mut entries = layout::entries(root)?;
    // No lock file where there is nothing to be locked, least of all in a folder that is no cache.
    let _lock = if entries.is_empty() { None } else { Some(store::try_lock(root).map_err(CacheError::file(root))?) };
    entries.retain(|(_, folder)| folder.exists());
    let ids: Vec<EntryId> = entries.iter().map(|(id, _)| *id).collect();
    let chosen = chosen(root, &ids, prefixes)?;
    let mut cleared = Cleared::default();
    for (id, folder) in entries {
        if prefixes.is_empty() || chosen.contains(&id) {
            clear_folder(id, &folder, &mut cleared)?;
        }
    }
    Ok(cleared)
}

fn chosen(root: &Path, ids: &[EntryId], prefixes: &[String]) -> Result<Vec<EntryId>, CacheError> {
    let one = |prefix: &String| {
        let begins = |key: &Digest| key.hex().starts_with(prefix) || key.to_string().starts_with(prefix);
        let found: Vec<EntryId> = ids.iter().copied().filter(|id| begins(&id.key)).collect();
        match found[..] {
            [one] => Ok(one),
            _ => Err(CacheError::Key { root: root.into(), prefix: prefix.clone(), found: found.len() }),
        }
    };
    prefixes.iter().map(one).collect()
}

fn clear_folder(id: EntryId, folder: &Path, cleared: &mut Cleared) -> Result<(), CacheError> {
    for file in layout::files_of(folder, id.content)? {
        if !layout::in_use(&file.path) {
            std::fs::remove_file(&file.path).map_err(CacheError::file(&file.path))?;
            cleared.bytes = cleared.bytes.saturating_add(file.bytes);
        }
    }
    let ids = if layout::remove_if_empty(folder, id.content) { &mut cleared.removed } else { &mut cleared.in_use };
    ids.push(id);
    Ok(())
}
