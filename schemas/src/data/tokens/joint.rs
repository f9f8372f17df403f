//! Which tokens of a text touch the parts of it that are wanted.

use std::ops::Range;

/// A token and the bytes of the text that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) id: u32,
    pub(super) span: Range<usize>,
}

/// Whether each token touches a wanted range. Tokens that stand for no byte, such as a space put before the text, go with
/// what follows them. A last character in several tokens is wanted whole; transformers' masks keep only its first token.
pub(super) fn touched(tokens: &[Token], wanted: &[Range<usize>]) -> Vec<bool> {
    let mut touched = vec![false; tokens.len()];
    let mut next: Option<bool> = None;
    for (token, touched) in tokens.iter().zip(&mut touched).rev() {
        *touched = if token.span.is_empty() {
            next.unwrap_or_else(|| {
                wanted.iter().any(|range| range.start <= token.span.start && token.span.start <= range.end)
            })
        } else {
            touches(&token.span, wanted)
        };
        next = Some(*touched);
    }
    touched
}

fn touches(span: &Range<usize>, wanted: &[Range<usize>]) -> bool {
    let after = wanted.partition_point(|range| range.end <= span.start);
    wanted.get(after).is_some_and(|range| range.start < span.end && !range.is_empty())
}

/// Whether a token begins before a wanted range and ends in it.
pub(super) fn straddles(tokens: &[Token], wanted: &[Range<usize>]) -> bool {
    tokens.iter().any(|Token { span, .. }| {
        let after = wanted.partition_point(|range| range.end <= span.start);
        wanted.get(after).is_some_and(|range| !range.is_empty() && span.start < range.start && range.start < span.end)
    })
}
