//! The first tokens of a long text, from a beginning of it: a text costs no more than the tokens that are taken of it.
//!
//! What follows a token can change it, but not from afar: words end at white space, merges reach as far as the longest
//! token. A beginning therefore gives the text's own tokens except near its end, where nothing is taken; and where a model
//! splits no words, so that the far side of a word could matter, a second beginning of twice the size must give the same.

use super::joint::Token;
use super::tokenizer::Tokenizer;

/// Bytes of text that a token has at most in nearly all texts.
const BYTES_A_TOKEN: usize = 16;
/// Bytes at the end of a beginning whose tokens are not taken, and the smallest beginning.
const MARGIN: usize = 1 << 10;
/// The largest text that is tokenized whole however few tokens it gives, in bytes.
const MAX_WHOLE: usize = 1 << 18;

/// The first tokens of a text.
pub(super) struct Beginning {
    /// At least as many as were asked for, if the text has them.
    pub(super) tokens: Vec<Token>,
    /// Whether these are all tokens of the text.
    pub(super) whole: bool,
}

/// The first `wanted` tokens of a text and more, or all that it has.
pub(super) fn beginning(tokenizer: &Tokenizer, text: &str, wanted: usize) -> Result<Beginning, String> {
    let mut size = wanted.saturating_mul(BYTES_A_TOKEN).saturating_add(2 * MARGIN);
    if size.saturating_mul(4) >= text.len() {
        return Ok(Beginning { tokens: tokenizer.tokens(text)?, whole: true });
    }
    let mut shorter = tokenizer.tokens(cut(text, size))?;
    while size.saturating_mul(2) < text.len() {
        check(size, wanted)?;
        let longer = tokenizer.tokens(cut(text, 2 * size))?;
        if settled(&shorter, &longer, wanted, size) {
            shorter.truncate(wanted.saturating_add(1));
            return Ok(Beginning { tokens: shorter, whole: false });
        }
        (shorter, size) = (longer, 2 * size);
    }
    check(size, wanted)?;
    Ok(Beginning { tokens: tokenizer.tokens(text)?, whole: true })
}

/// Whether two beginnings agree on one token more than is wanted, away from where the shorter ends.
fn settled(shorter: &[Token], longer: &[Token], wanted: usize, size: usize) -> bool {
    let (Some(first), Some(second)) = (shorter.get(..=wanted), longer.get(..=wanted)) else { return false };
    let end = first.iter().map(|token| token.span.end).max().unwrap_or(0);
    end + MARGIN <= size && first == second
}

fn check(size: usize, wanted: usize) -> Result<(), String> {
    let largest = wanted.saturating_mul(BYTES_A_TOKEN * BYTES_A_TOKEN).max(MAX_WHOLE);
    if size > largest {
        return Err(format!("the first {size} bytes of this text give fewer than {wanted} tokens; shorten it"));
    }
    Ok(())
}

/// The beginning of a text of about that many bytes, which ends before white space if there is any near.
fn cut(text: &str, bytes: usize) -> &str {
    let start = text.get(..text.floor_char_boundary(bytes)).unwrap_or(text);
    let space = start.char_indices().rev().take(MARGIN / 4).find(|(_, letter)| letter.is_whitespace());
    space.and_then(|(at, _)| start.get(..at)).unwrap_or(start)
}
