//! One training example: tokens and what is to be predicted in them.

use crate::digest::{Digest, Hasher};

/// One example: a sequence of tokens and what is to be predicted in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Where its row stands in the file, from 1: its line, or its number where rows are counted ([`Unit`](crate::data::Unit)).
    pub line: u64,
    /// By the model's own tokenizer, special tokens included.
    pub tokens: Vec<u32>,
    /// In the order of their positions; never empty.
    pub targets: Vec<Target>,
    /// Whether tokens were cut off to keep to the maximum length.
    pub cut: bool,
    /// Whether targets were among what was cut off.
    pub(super) targets_cut: bool,
    /// Whether the last target is the token that ends the text, and no word of the completion.
    pub(super) ended: bool,
}

/// An example as a prompt and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion<'a> {
    /// What the model is shown.
    pub prompt: &'a [u32],
    /// What it is to say, the end of the text included.
    pub tokens: &'a [u32],
    /// How many of these tokens are words: the others end the text.
    pub words: usize,
}

/// A token that training is asked to predict, and the position before it, at which it is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it is predicted, from 0.
    pub position: u32,
    /// What is to be predicted there.
    pub token: u32,
}

impl Example {
    /// An example that is whole.
    pub fn new(line: u64, tokens: Vec<u32>, targets: Vec<Target>) -> Example {
        Example { line, tokens, targets, cut: false, targets_cut: false, ended: false }
    }

    /// Puts the token that ends the text behind it, as a target. Where there is no room for it, it is cut off.
    pub(super) fn end_with(&mut self, token: u32, max_length: usize) {
        if self.cut || self.tokens.len() >= max_length {
            (self.cut, self.targets_cut) = (true, true);
            return;
        }
        // A token before which there is none cannot be predicted.
        let Some(last) = self.tokens.len().checked_sub(1) else { return };
        self.targets.push(Target { position: last as u32, token });
        self.tokens.push(token);
        self.ended = true;
    }

    /// Digest of the example's tokens and targets; its place, and whether it was cut, do not count.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        let tokens: Vec<u8> = self.tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        hasher.update_framed(&tokens);
        let pairs = self.targets.iter().flat_map(|target| [target.position, target.token]);
        let targets: Vec<u8> = pairs.flat_map(u32::to_le_bytes).collect();
        hasher.update_framed(&targets);
        hasher.finish()
    }

    /// The prompt and the completion, where the example is one prompt and one completion: its targets are one run of
    /// its own tokens with something before them. What follows the run (a template's line break) is in neither.
    ///
    /// None where targets were cut off: what is left of a completion is another completion.
    pub fn completion(&self) -> Option<Completion<'_>> {
        if self.targets_cut {
            return None;
        }
        let start = self.targets.first()?.position as usize + 1;
        let end = start + self.targets.len();
        let tokens = self.tokens.get(start..end)?;
        let one_run =
            self.targets.iter().zip(start..).all(|(target, position)| target.position as usize + 1 == position);
        let own = self.targets.iter().zip(tokens).all(|(target, token)| target.token == *token);
        let words = tokens.len() - usize::from(self.ended);
        // A text that is a target from its second token on has no prompt.
        let prompt = (one_run && own && start > 1).then(|| &self.tokens[..start])?;
        Some(Completion { prompt, tokens, words })
    }
}

/// Digest of examples in their order.
pub fn digest<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Digest {
    let mut hasher = Hasher::default();
    examples.into_iter().for_each(|example| hasher.update(example.digest().as_bytes()));
    hasher.finish()
}
