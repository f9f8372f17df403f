//! A model's own tokenizer: texts to the tokens that the model will see, and which of them stand for the parts that are
//! wanted. Files are read when a text first needs them.
//!
//! [`load`] makes of `tokenizer.json` and the files beside it what transformers makes of them: `special` (special and added
//! tokens), `class` (what a class builds itself). A text passes `normalizer`, `splits` and the model; `around` is put around
//! it; `window` spares the rest of long texts; `joint` finds the wanted tokens.

mod around;
mod class;
mod error;
mod joint;
mod load;
mod normalizer;
mod pattern;
mod pieces;
mod special;
mod splits;
mod tokenizer;
mod window;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use self::around::Around;
pub use self::error::TokenError;
use self::joint::Token;
pub use self::special::{SpecialToken, SpecialTokens};
use self::tokenizer::Tokenizer;
use crate::guard::guarded;
use crate::model::TOKENIZER_FILE;

/// Whether a text gets the tokens that the model wants around a whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialTokensAround {
    /// It gets them, each once: a text that begins or ends with them already gets no more.
    Add,
    /// It is taken as it is.
    None,
}

/// The tokens of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The first tokens of the text, at most as many as may be.
    pub tokens: Vec<u32>,
    /// Whether each of them is wanted.
    pub wanted: Vec<bool>,
    /// Whether a token begins before a wanted range and ends in it; such a token is wanted.
    pub straddles: bool,
    /// Whether the whole text has more tokens.
    pub cut: bool,
    /// Whether tokens that were cut off are wanted.
    pub wanted_cut: bool,
    /// Whether the text ends with the end-of-sequence token, and nothing of it was cut off.
    pub ended: bool,
}

impl Tokenizer {
    fn encode(
        &self,
        text: &str,
        wanted: &[Range<usize>],
        special: SpecialTokensAround,
        max_length: usize,
    ) -> Result<Encoded, String> {
        let window::Beginning { mut tokens, whole } = window::beginning(self, text, max_length)?;
        let mut flags = joint::touched(&tokens, wanted);
        if special == SpecialTokensAround::Add {
            let reaches_end = wanted.last().is_some_and(|range| range.end >= text.len());
            self.put_around(&mut tokens, &mut flags, whole, reaches_end);
        }
        let cut = !whole || tokens.len() > max_length;
        let wanted_cut = if whole {
            flags.iter().skip(max_length).any(|&wanted| wanted)
        } else {
            let end = tokens.iter().take(max_length).map(|token| token.span.end).max().unwrap_or(0);
            wanted.iter().any(|range| !range.is_empty() && range.end > end)
        };
        tokens.truncate(max_length);
        flags.truncate(max_length);
        let ended = !cut && tokens.last().is_some_and(|token| Some(token.id) == self.special.eos());
        let straddles = joint::straddles(&tokens, wanted);
        let tokens = tokens.into_iter().map(|token| token.id).collect();
        Ok(Encoded { tokens, wanted: flags, straddles, cut, wanted_cut, ended })
    }

    /// Puts the model's tokens around a text that does not begin or end with them already. Those after it are wanted where
    /// the end of the text is, and left out where it is cut off.
    fn put_around(&self, tokens: &mut Vec<Token>, flags: &mut Vec<bool>, whole: bool, end_wanted: bool) {
        let Around { before, after } = &self.around;
        let ids = || tokens.iter().map(|token| token.id);
        let begins = ids().take(before.len()).eq(before.iter().copied());
        let ends = ids().rev().take(after.len()).eq(after.iter().rev().copied());
        let around = |ids: &[u32]| ids.iter().map(|&id| Token { id, span: 0..0 }).collect::<Vec<_>>();
        if whole && !ends {
            tokens.extend(around(after));
            flags.extend(after.iter().map(|_| end_wanted));
        }
        if !begins {
            tokens.splice(..0, around(before));
            flags.splice(..0, before.iter().map(|_| false));
        }
    }
}

/// Turns the texts of examples into tokens. What it has read, hundreds of megabytes for a large vocabulary, goes back to
/// the system with it.
pub struct Encoder {
    folder: PathBuf,
    tokenizer: OnceLock<Result<Tokenizer, TokenError>>,
}

impl Encoder {
    /// An encoder for the model in `folder`. Nothing is read yet.
    pub fn new(folder: &Path) -> Encoder {
        Encoder { folder: folder.into(), tokenizer: OnceLock::new() }
    }

    /// The model's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Tokens of a text, all in one go, and which of them are wanted: those that touch a byte of `wanted`, sorted ranges of
    /// bytes of the text that do not overlap, and the tokens put after the text where the last of them reaches its end. Of
    /// a text with more than `max_length` tokens, the first `max_length` are given.
    ///
    /// # Errors
    /// The tokenizer does not load, or does not take the text.
    pub fn encode(
        &self,
        text: &str,
        wanted: &[Range<usize>],
        special: SpecialTokensAround,
        max_length: usize,
    ) -> Result<Encoded, TokenError> {
        let tokenizer = self.tokenizer()?;
        let encoded = guarded(|| tokenizer.encode(text, wanted, special, max_length));
        let encoded = encoded.unwrap_or_else(|panic| Err(format!("it fails on this text: {panic}")));
        encoded.map_err(|reason| TokenError::Encode { path: self.folder.join(TOKENIZER_FILE), reason })
    }

    /// The special tokens of the model.
    ///
    /// # Errors
    /// The tokenizer does not load.
    pub fn special_tokens(&self) -> Result<&SpecialTokens, TokenError> {
        Ok(&self.tokenizer()?.special)
    }

    /// The text that each token stands for, for people; nothing that is tokenised again.
    ///
    /// # Errors
    /// The tokenizer does not load.
    pub fn pieces(&self, tokens: &[u32]) -> Result<Vec<String>, TokenError> {
        let tokenizer = self.tokenizer()?;
        let failed = |reason| TokenError::Encode { path: self.folder.join(TOKENIZER_FILE), reason };
        guarded(|| tokenizer.pieces(tokens)).map_err(failed)
    }

    fn tokenizer(&self) -> Result<&Tokenizer, TokenError> {
        self.tokenizer.get_or_init(|| load::load(&self.folder)).as_ref().map_err(Clone::clone)
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

/// Gives freed memory back to the system. The C library keeps what lay in many small blocks, as vocabularies do.
fn return_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
