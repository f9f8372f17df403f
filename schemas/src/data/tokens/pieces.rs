//! Tokens as text, for people.

use tokenizers::{Decoder as _, Model as _};

use super::tokenizer::Tokenizer;

/// The most tokens that are one character together: one for each of its bytes.
const TOKENS_A_CHARACTER: usize = 4;

impl Tokenizer {
    /// The text that each token stands for. Of tokens that are one character together, the last has it and the others are
    /// empty.
    pub(super) fn pieces(&self, ids: &[u32]) -> Vec<String> {
        let mut pieces = Vec::with_capacity(ids.len());
        // The tokens that are not told yet, after one that is: decoders treat a text's first token differently.
        let (mut window, mut told): (Vec<String>, usize) = (Vec::new(), 0);
        for &id in ids {
            if let Some(added) = self.added.simple_id_to_token(id) {
                (window, told) = (Vec::new(), 0);
                pieces.push(added);
                continue;
            }
            window.push(self.model.id_to_token(id).unwrap_or_else(|| format!("<token {id}>")));
            let (before, now) = (self.decoded(&window[..told]), self.decoded(&window));
            if now.ends_with('\u{fffd}') && window.len() - told < TOKENS_A_CHARACTER {
                pieces.push(String::new());
            } else {
                pieces.push(now.strip_prefix(&before).unwrap_or(&now).to_owned());
                window.drain(..window.len() - 1);
                told = 1;
            }
        }
        pieces
    }

    fn decoded(&self, tokens: &[String]) -> String {
        let decoded = self.decoder.as_ref().and_then(|decoder| decoder.decode(tokens.to_vec()).ok());
        decoded.unwrap_or_else(|| tokens.join(" "))
    }
}
