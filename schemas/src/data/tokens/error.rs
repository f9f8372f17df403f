//! What can be wrong with a tokenizer and the files beside it.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::files;

/// The largest file of settings read, in bytes.
const MAX_SETTINGS: u64 = 1 << 26;

/// Text that cannot be turned into tokens.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum TokenError {
    /// The model folder has no tokenizer, or one that does not load.
    #[error("{}: {reason}; rows of text need the model's tokenizer, rows of `input_ids` and `labels` do not", path.display())]
    Tokenizer { path: PathBuf, reason: String },
    /// A text that the tokenizer does not take.
    #[error("{}: {reason}; rows of `input_ids` and `labels` need no tokenizer", path.display())]
    Encode { path: PathBuf, reason: String },
}

impl TokenError {
    /// Whether other texts may do better: not where the tokenizer cannot be used.
    pub(in crate::data) fn is_of_text(&self) -> bool {
        matches!(self, TokenError::Encode { .. })
    }
}

/// What a file of settings in `folder` says; `None` where there is none.
pub(super) fn json_file(folder: &Path, name: &str) -> Result<Option<Json>, TokenError> {
    let path = folder.join(name);
    files::json_if_there(&path, MAX_SETTINGS).map_err(|error| TokenError::Tokenizer { path, reason: error.to_string() })
}
