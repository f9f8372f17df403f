//! One training example: tokens and what is to be predicted in them.

use crate::digest::{Digest, Hasher};

/// One example: a sequence of tokens and what is to be predicted in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The row's line in its file, from 1.
    pub line: u64,
    /// By the model's own tokenizer, special tokens included.
    pub tokens: Vec<u32>,
    /// In the order of their positions; never empty.
    pub targets: Vec<Target>,
    /// Whether tokens were cut off to keep to the maximum length.
    pub cut: bool,
    /// Whether targets were among what was cut off.
    pub(super) targets_cut: bool,
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
        Example { line, tokens, targets, cut: false, targets_cut: false }
    }

    /// Digest of the example's tokens and targets; its line, and whether it was cut, do not count.
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
    pub fn completion(&self) -> Option<(&[u32], &[u32])> {
        if self.targets_cut {
            return None;
        }
        let start = self.targets.first()?.position as usize + 1;
        let end = start + self.targets.len();
        let completion = self.tokens.get(start..end)?;
        let one_run =
            self.targets.iter().zip(start..).all(|(target, position)| target.position as usize + 1 == position);
        let own = self.targets.iter().zip(completion).all(|(target, token)| target.token == *token);
        // A text that is a target from its second token on has no prompt.
        (one_run && own && start > 1).then(|| (&self.tokens[..start], completion))
    }
}

/// Digest of examples in their order.
pub fn digest<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Digest {
    let mut hasher = Hasher::default();
    examples.into_iter().for_each(|example| hasher.update(example.digest().as_bytes()));
    hasher.finish()
}
