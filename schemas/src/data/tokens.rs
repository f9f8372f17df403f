//! A model's own tokenizer, `tokenizer.json`, and its chat template, each read when a row first needs it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value as Json;
use tokenizers::{Encoding, Tokenizer};

use crate::data::{ChatError, ChatTemplate};
use crate::files;
use crate::model::TOKENIZER_FILE;

/// The largest tokenizer read, in bytes.
const MAX_TOKENIZER: u64 = 1 << 30;

/// Text that cannot be turned into tokens.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum TokenError {
    /// The model folder has no tokenizer, or one that does not load.
    #[error("{}: {reason}; rows of text need the model's tokenizer, rows of `input_ids` and `labels` do not", path.display())]
    Tokenizer { path: PathBuf, reason: String },
    /// A text that the tokenizer does not take.
    #[error("the tokenizer says: {0}")]
    Encode(String),
    /// The chat template does not load, or does not take the conversation.
    #[error("{0}")]
    Chat(String),
}

impl From<ChatError> for TokenError {
    fn from(error: ChatError) -> TokenError {
        TokenError::Chat(error.to_string())
    }
}

/// Gives freed memory back to the system. The C library keeps what lay in many small blocks, as vocabularies do.
fn return_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Turns the texts of examples into tokens. What it has read, hundreds of megabytes for a large vocabulary, goes back to
/// the system with it.
pub struct Encoder {
    folder: PathBuf,
    tokenizer: OnceLock<Result<Tokenizer, TokenError>>,
    template: OnceLock<Result<ChatTemplate, TokenError>>,
}

impl Encoder {
    /// An encoder for the model in `folder`. Nothing is read yet.
    pub fn new(folder: &Path) -> Encoder {
        Encoder { folder: folder.into(), tokenizer: OnceLock::new(), template: OnceLock::new() }
    }

    /// Tokens of a text, with the special tokens that the model wants around a whole text or without.
    pub fn encode(&self, text: &str, special_tokens: bool) -> Result<Vec<u32>, TokenError> {
        Ok(self.encoding(text, special_tokens)?.get_ids().to_vec())
    }

    /// Tokens of a conversation, and for each whether the assistant said it.
    pub fn encode_chat(&self, messages: &[Json], tools: Option<&Json>) -> Result<(Vec<u32>, Vec<bool>), TokenError> {
        let template = self.template.get_or_init(|| Ok(ChatTemplate::open(&self.folder)?)).as_ref();
        let rendered = template.map_err(Clone::clone)?.render(messages, tools)?;
        // Templates write the special tokens themselves.
        let encoding = self.encoding(&rendered.text, false)?;
        let said = encoding.get_offsets().iter().map(|&(start, end)| {
            rendered.answers.iter().any(|answer| start < end && answer.start <= start && start < answer.end)
        });
        Ok((encoding.get_ids().to_vec(), said.collect()))
    }

    fn encoding(&self, text: &str, special_tokens: bool) -> Result<Encoding, TokenError> {
        let tokenizer = self.tokenizer.get_or_init(|| read_tokenizer(&self.folder)).as_ref().map_err(Clone::clone)?;
        tokenizer.encode(text, special_tokens).map_err(|error| TokenError::Encode(error.to_string()))
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        let was_read = self.tokenizer.take().is_some();
        if was_read {
            return_memory();
        }
    }
}

fn read_tokenizer(folder: &Path) -> Result<Tokenizer, TokenError> {
    let path = folder.join(TOKENIZER_FILE);
    let failed = |reason: String| TokenError::Tokenizer { path: path.clone(), reason };
    let text = files::read_at_most(&path, MAX_TOKENIZER).map_err(|error| failed(error.to_string()))?;
    let mut tokenizer = Tokenizer::from_bytes(text).map_err(|error| failed(error.to_string()))?;
    // Some files carry the settings of the last training run; length and padding are decided here.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| failed(error.to_string()))?;
    Ok(tokenizer)
}
