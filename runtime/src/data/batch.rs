//! Batches: how the rows of a step lie side by side.

use std::collections::BTreeSet;
use std::ops::Range;

use frostline_schemas::data::Example;

use crate::error::Error;
use crate::ops::sequences::{Sequences, Span};

/// Rows one after the other, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// [tokens].
    pub tokens: Vec<u32>,
    /// Which tokens belong together.
    pub sequences: Sequences,
    /// The tokens at which something is predicted, rising.
    pub predicted_at: Vec<u32>,
    /// The tokens to predict: (which of `predicted_at`, token).
    pub targets: Vec<(u32, u32)>,
    /// The row of each target; where completions are ranked, the completion.
    pub target_rows: Vec<u32>,
    /// Line of the longest row in its file, to name it by; 0 without rows.
    pub longest: u64,
    /// Layers that these rows ask no gradient of, counted from the input; what lies below the scope is added to them.
    pub frost_line: usize,
}

/// The most rows of a step, and the most tokens of a batch: far more than any machine trains at once,
/// and few enough that a slip of the hand is refused before it takes memory.
pub const MAX_SIZE: usize = 1 << 24;

/// Checks that a batch of `rows` of these examples has at most [`MAX_SIZE`] tokens.
///
/// # Errors
/// [`Error::Setting`] where it has more.
pub fn check_size(rows: usize, examples: &[Example]) -> Result<(), Error> {
    let longest = examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
    match rows.checked_mul(longest) {
        Some(tokens) if tokens <= MAX_SIZE => Ok(()),
        _ => {
            let reason = "with rows as long as the longest a batch would have more than 16777216 tokens";
            Err(Error::Setting { field: "batch_size", value: rows.to_string(), reason })
        }
    }
}

impl Batch {
    /// Lays examples one after the other.
    pub fn new<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Batch {
        let mut builder = Builder::default();
        for (row, example) in examples.into_iter().enumerate() {
            let start = builder.sequence(&example.tokens, 0, None, example.line);
            for target in &example.targets {
                builder.target(start + target.position, target.token, row as u32);
            }
        }
        builder.finish()
    }

    /// The token to predict at each of `predicted_at`; `None` where there is not just one at each.
    pub fn one_target_each(&self) -> Option<Vec<u32>> {
        let one = self.targets.iter().enumerate().all(|(k, (at, _))| *at as usize == k);
        let all = self.targets.len() == self.predicted_at.len();
        (one && all).then(|| self.targets.iter().map(|&(_, token)| token).collect())
    }

    /// Lays prompts one after the other, each followed by all completions as branches of it: what prompt and completions
    /// have in common is there once. The targets are all tokens of all completions after each prompt, prompt by prompt.
    pub fn ranking<'a>(prompts: impl IntoIterator<Item = (u64, &'a [u32])>, completions: &[&[u32]]) -> Batch {
        let mut builder = Builder::default();
        let mut row = 0;
        for (line, prompt) in prompts {
            let start = builder.sequence(prompt, 0, None, line);
            let last = start + (prompt.len() as u32).saturating_sub(1);
            let whole = start as usize..start as usize + prompt.len();
            for completion in completions {
                // The last token predicts nothing.
                let read = &completion[..completion.len().saturating_sub(1)];
                let branch = builder.sequence(read, prompt.len(), Some(whole.clone()), line);
                for (k, &token) in completion.iter().enumerate() {
                    builder.target(if k == 0 { last } else { branch + k as u32 - 1 }, token, row);
                }
                row += 1;
            }
        }
        builder.finish()
    }
}

/// A batch that is being laid.
#[derive(Default)]
struct Builder {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    spans: Vec<Span>,
    predicted_at: BTreeSet<u32>,
    /// Where it is predicted, the token to predict, row.
    targets: Vec<(u32, u32, u32)>,
    longest: (usize, u64),
}

impl Builder {
    /// Lays tokens at positions from `position` on; they see themselves and what lies in `before`. Returns the index
    /// of the first.
    fn sequence(&mut self, tokens: &[u32], position: usize, before: Option<Range<usize>>, line: u64) -> u32 {
        let start = self.tokens.len();
        if position + tokens.len() > self.longest.0 {
            self.longest = (position + tokens.len(), line);
        }
        self.tokens.extend(tokens);
        self.positions.extend((position..position + tokens.len()).map(|position| position as u32));
        let own = start..self.tokens.len();
        if !tokens.is_empty() {
            self.spans.push(match before {
                Some(before) => Span::after(before, own),
                None => Span::alone(own),
            });
        }
        start as u32
    }

    fn target(&mut self, at: u32, token: u32, row: u32) {
        self.predicted_at.insert(at);
        self.targets.push((at, token, row));
    }

    fn finish(self) -> Batch {
        let predicted_at: Vec<u32> = self.predicted_at.into_iter().collect();
        let which = |at: u32| predicted_at.partition_point(|&before| before < at) as u32;
        Batch {
            targets: self.targets.iter().map(|&(at, token, _)| (which(at), token)).collect(),
            target_rows: self.targets.iter().map(|&(_, _, row)| row).collect(),
            tokens: self.tokens,
            sequences: Sequences::new(self.spans, self.positions),
            predicted_at,
            longest: self.longest.1,
            frost_line: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frostline_schemas::data::Target;

    fn example(tokens: &[u32], positions: &[u32]) -> Example {
        let targets = positions.iter().map(|&position| Target { position, token: tokens[position as usize + 1] });
        Example::new(1, tokens.to_vec(), targets.collect())
    }

    #[test]
    fn rows_lie_one_after_the_other() {
        let batch = Batch::new([&example(&[5, 6, 7], &[1]), &example(&[8, 9], &[0])]);
        assert_eq!((batch.tokens, batch.longest), (vec![5, 6, 7, 8, 9], 1));
        assert_eq!(batch.sequences.positions(), [0, 1, 2, 0, 1]);
        assert_eq!(
            (batch.predicted_at, batch.targets, batch.target_rows),
            (vec![1, 3], vec![(0, 7), (1, 9)], vec![0, 1])
        );
    }

    #[test]
    fn completions_branch_off_their_prompt() {
        let prompts: [(u64, &[u32]); 2] = [(1, &[5, 6]), (2, &[7])];
        let batch = Batch::ranking(prompts, &[&[1], &[2, 3]]);
        assert_eq!(batch.tokens, [5, 6, 2, 7, 2]);
        assert_eq!(batch.sequences.positions(), [0, 1, 2, 0, 1]);
        assert_eq!(batch.sequences.spans()[1], Span::after(0..2, 2..3));
        assert_eq!(batch.predicted_at, [1, 2, 3, 4]);
        assert_eq!(batch.targets, [(0, 1), (0, 2), (1, 3), (2, 1), (2, 2), (3, 3)]);
        assert_eq!(batch.target_rows, [0, 1, 1, 2, 3, 3]);
    }
}
