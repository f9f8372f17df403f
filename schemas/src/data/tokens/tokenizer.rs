//! A tokenizer in its parts.

use tokenizers::{AddedVocabulary, DecoderWrapper, Model as _, ModelWrapper, OffsetType};

use super::around::Around;
use super::joint::Token;
use super::normalizer::Normalizer;
use super::special::SpecialTokens;
use super::splits::Splits;

/// A tokenizer that was read.
pub(super) struct Tokenizer {
    pub(super) added: AddedVocabulary,
    pub(super) normalizer: Normalizer,
    pub(super) splits: Splits,
    pub(super) model: ModelWrapper,
    /// Tokens to text; for what people read alone.
    pub(super) decoder: Option<DecoderWrapper>,
    pub(super) around: Around,
    pub(super) special: SpecialTokens,
}

impl Tokenizer {
    /// Tokens of a text by itself.
    pub(super) fn tokens(&self, text: &str) -> Result<Vec<Token>, String> {
        let bounded = self.normalizer.bounded(text.len());
        let mut parts = self.added.extract_and_normalize(bounded.as_ref(), text);
        if let Some(failure) = bounded.and_then(|bounded| bounded.failure()) {
            return Err(failure);
        }
        let split = self.splits.apply(&mut parts);
        let tokenized = split.and_then(|()| self.model.tokenize_in_pretokenized(&mut parts, None));
        let encoding = tokenized.and_then(|()| parts.into_encoding(None, 0, OffsetType::Byte));
        let encoding = encoding.map_err(|error| error.to_string())?;
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
        Ok(tokens.map(|(&id, &(start, end))| Token { id, span: start..end }).collect())
    }
}
