//! Which states a cache holds.

use std::path::Path;
use std::time::SystemTime;

use frostline_schemas::cache::{self, Content};
use frostline_schemas::digest::Digest;
use frostline_schemas::files;

use super::key::CacheKey;
use super::segment;
use crate::error::Error;

/// The states of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedStates {
    /// Digest of the key.
    pub digest: Digest,
    /// The key, where its description can be read.
    pub key: Option<CacheKey>,
    /// Examples that there are states of.
    pub examples: u64,
    /// Size on disk.
    pub bytes: u64,
    /// When any of them was last used.
    pub last_used: Option<SystemTime>,
}

/// The states that lie below a root, ordered by key; none where the root does not exist.
///
/// # Errors
/// [`Error::Cache`] where a folder cannot be read.
pub fn list(root: &Path) -> Result<Vec<ListedStates>, Error> {
    let states = cache::list(root)?.into_iter().filter(|listed| listed.id.content == Content::States);
    let listed = states.map(|cache::Listed { id, description, files, bytes, last_used }| ListedStates {
        digest: id.key,
        key: description
            .and_then(|description| serde_json::from_value::<CacheKey>(description).ok())
            .filter(|key| key.digest() == id.key),
        examples: files.iter().map(|path| examples(path)).sum(),
        bytes,
        last_used,
    });
    Ok(listed.collect())
}

/// Examples in a segment; 0 where it is damaged.
fn examples(path: &Path) -> u64 {
    let records = files::map(path).ok().and_then(|map| Some(segment::parse(&map).ok()?.records.len()));
    records.unwrap_or(0) as u64
}
