//! Why a row has nothing to predict.

use crate::data::Example;
use crate::units::plural;

/// Why a row has nothing to predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoTarget {
    /// All of it lies beyond the maximum length.
    Cut,
    /// Its completion, or its text, is empty.
    Empty,
    /// The assistant says nothing in it, or nothing that is to be a target.
    NoAnswer,
    /// The chat template leaves out what the assistant says.
    NotRendered,
    /// All of its labels are −100, or it has a single token.
    NoLabels,
    /// Its weight is 0.
    Weight,
}

impl NoTarget {
    /// Of an example that lost its targets, or never had one after its first token.
    pub(super) fn of(example: &Example) -> NoTarget {
        if example.targets_cut { NoTarget::Cut } else { NoTarget::NoLabels }
    }

    /// What the row has or is, in words.
    pub fn says(self, max_length: usize) -> String {
        match self {
            NoTarget::Cut => format!("no target within the first {}", plural(max_length as u64, "token")),
            NoTarget::Empty => "an empty completion".into(),
            NoTarget::NoAnswer => "no answer of the assistant to train on".into(),
            NoTarget::NotRendered => "an answer that the chat template leaves out".into(),
            NoTarget::NoLabels => "nothing to predict after the first token".into(),
            NoTarget::Weight => "weight 0".into(),
        }
    }
}
