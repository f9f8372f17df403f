//! What an entry of the cache is called.

use crate::digest::Digest;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// States at a frost line, many examples to a file.
    States,
    /// The Gram matrix of an LM head, one file.
    GramMatrix,
}

impl Content {
    /// All there are.
    pub const ALL: [Content; 2] = [Content::States, Content::GramMatrix];

    /// What an entry's folder is named with, before the key.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Content::States => "states-",
            Content::GramMatrix => "gram-",
        }
    }

    /// What the names of an entry's files end in.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Content::States => ".states",
            Content::GramMatrix => ".safetensors",
        }
    }

    /// For messages.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Content::States => "states",
            Content::GramMatrix => "Gram matrices",
        }
    }
}

/// An entry: what it holds, and the digest of all that decides on it.
///
/// Whoever makes the digest hashes a format number of the content with it, and raises the number with every change to the
/// format or to the arithmetic that the content comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId {
    /// What it holds.
    pub content: Content,
    /// Digest of the key.
    pub key: Digest,
}

impl EntryId {
    /// The name of the entry's folder.
    pub(super) fn folder_name(&self) -> String {
        format!("{}{}", self.content.prefix(), self.key.hex())
    }

    /// The entry whose folder has this name; `None` where it is nobody's.
    pub(super) fn of_folder_name(name: &str) -> Option<EntryId> {
        Content::ALL.into_iter().find_map(|content| {
            let key = Digest::from_hex(name.strip_prefix(content.prefix())?).ok()?;
            Some(EntryId { content, key })
        })
    }
}
