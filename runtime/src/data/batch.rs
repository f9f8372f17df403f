//! Examples into batches: which rows a step takes, and how they lie side by side.

use std::collections::BTreeSet;
use std::ops::Range;

use frostline_schemas::data::Example;
use frostline_schemas::run::Order;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::error::Error;
use crate::ops::sequences::{Sequences, Span};

/// Rows one after the other, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// [places].
    pub tokens: Vec<u32>,
    /// Which places belong together.
    pub sequences: Sequences,
    /// The places at which something is predicted, rising.
    pub places: Vec<u32>,
    /// The tokens to predict: (which of `places`, token).
    pub targets: Vec<(u32, u32)>,
    /// The row of each target; where completions are ranked, the completion.
    pub target_rows: Vec<u32>,
    /// Line of the longest row in its file, to name it by; 0 without rows.
    pub longest: u64,
    /// Layers that these rows ask no gradient of, counted from the input; what lies below the scope is added to them.
    pub frost_line: usize,
}

/// The most rows of a step, and the most places of a batch: far more than any machine trains at once,
/// and few enough that a slip of the hand is refused before it takes memory.
pub const MAX_SIZE: usize = 1 << 24;

/// Checks that a batch of `rows` of these examples has at most [`MAX_SIZE`] places.
///
/// # Errors
/// [`Error::Setting`] where it has more.
pub fn check_size(rows: usize, examples: &[Example]) -> Result<(), Error> {
    let longest = examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
    match rows.checked_mul(longest) {
        Some(places) if places <= MAX_SIZE => Ok(()),
        _ => {
            let reason = "with rows as long as the longest a batch would have more than 16777216 tokens";
            Err(Error::Setting { field: "batch size", value: rows.to_string(), reason })
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

    /// The token to predict at each of `places`; `None` where there is not just one at each.
    pub fn one_target_a_place(&self) -> Option<Vec<u32>> {
        let one = self.targets.iter().enumerate().all(|(k, (place, _))| *place as usize == k);
        let all = self.targets.len() == self.places.len();
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
    places: BTreeSet<u32>,
    /// Place, token, row.
    targets: Vec<(u32, u32, u32)>,
    longest: (usize, u64),
}

impl Builder {
    /// Lays tokens at positions from `position` on; they see themselves and what lies in `before`. Returns the place of
    /// the first.
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

    fn target(&mut self, place: u32, token: u32, row: u32) {
        self.places.insert(place);
        self.targets.push((place, token, row));
    }

    fn finish(self) -> Batch {
        let places: Vec<u32> = self.places.into_iter().collect();
        let which = |place: u32| places.partition_point(|&before| before < place) as u32;
        Batch {
            targets: self.targets.iter().map(|&(place, token, _)| (which(place), token)).collect(),
            target_rows: self.targets.iter().map(|&(_, _, row)| row).collect(),
            tokens: self.tokens,
            sequences: Sequences::new(self.spans, self.positions),
            places,
            longest: self.longest.1,
            frost_line: 0,
        }
    }
}

/// The order in which the rows of a data set are taken, without end.
#[derive(Clone, Debug)]
pub struct Rows {
    order: Order,
    random: ChaCha8Rng,
    lengths: Vec<usize>,
    /// Empty where all rows are of one depth.
    depths: Vec<usize>,
    batch_size: usize,
    rows: Vec<usize>,
    next: usize,
    /// Rows taken so far, of all epochs.
    taken: usize,
}

/// Batches among which rows are sorted by length: few enough that an epoch's order is still much of a shuffle.
const BUCKET: usize = 32;

impl Rows {
    /// Rows of these lengths, in tokens: as they stand, or in another order for each epoch. The same seed gives the same
    /// order on every machine.
    pub fn new(lengths: Vec<usize>, order: Order, seed: u64, batch_size: usize) -> Rows {
        let (random, rows): (_, Vec<usize>) = (ChaCha8Rng::seed_from_u64(seed), (0..lengths.len()).collect());
        Rows {
            order,
            random,
            batch_size: batch_size.max(1),
            next: rows.len(),
            lengths,
            depths: Vec::new(),
            rows,
            taken: 0,
        }
    }

    /// The same, with rows of like depth in one batch; `depths` has one for each row, or none at all.
    pub fn of_depths(self, depths: &[usize]) -> Rows {
        Rows { depths: depths.to_vec(), ..self }
    }

    /// The next `count` rows; an epoch's end is no end.
    pub fn take(&mut self, count: usize) -> Vec<usize> {
        (0..if self.rows.is_empty() { 0 } else { count }).map(|_| self.one()).collect()
    }

    fn one(&mut self) -> usize {
        if self.next == self.rows.len() {
            self.next = 0;
            match self.order {
                Order::File => (),
                Order::Shuffle if self.depths.is_empty() => self.rows.shuffle(&mut self.random),
                Order::Shuffle | Order::Length => self.shuffle_alike(),
            }
        }
        self.next += 1;
        self.taken = self.taken.wrapping_add(1);
        self.rows[self.next - 1]
    }

    /// Shuffles, sorts the rows by depth and those of some batches by length, and shuffles the batches. The first rows
    /// fill up the batch that the epoch before has begun, so that those after them stay together.
    fn shuffle_alike(&mut self) {
        self.rows.shuffle(&mut self.random);
        let begun = self.taken % self.batch_size;
        let first = ((self.batch_size - begun) % self.batch_size).min(self.rows.len());
        let (filling, rest) = self.rows.split_at_mut(first);
        rest.sort_by_key(|&row| self.depths.get(row).copied());
        if self.order == Order::Length {
            let alike = |a: &usize, b: &usize| self.depths.get(*a) == self.depths.get(*b);
            let of_one_depth = rest.chunk_by_mut(alike);
            for bucket in of_one_depth.flat_map(|rows| rows.chunks_mut(self.batch_size.saturating_mul(BUCKET))) {
                bucket.sort_by_key(|&row| self.lengths[row]);
            }
        }
        let mut batches: Vec<&[usize]> = rest.chunks(self.batch_size).collect();
        // A shorter batch at the end stays there: the next epoch fills it up.
        let whole = rest.len() / self.batch_size;
        batches[..whole].shuffle(&mut self.random);
        self.rows = [&*filling, &batches.concat()].concat();
    }
}

/// Steps that take every row `epochs` times, the last step filled up from the next epoch.
pub fn steps_of_epochs(epochs: f64, rows: usize, rows_per_step: usize) -> u64 {
    (epochs * rows as f64 / rows_per_step.max(1) as f64).ceil().max(1.0) as u64
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
        assert_eq!((batch.places, batch.targets, batch.target_rows), (vec![1, 3], vec![(0, 7), (1, 9)], vec![0, 1]));
    }

    #[test]
    fn completions_branch_off_their_prompt() {
        let prompts: [(u64, &[u32]); 2] = [(1, &[5, 6]), (2, &[7])];
        let batch = Batch::ranking(prompts, &[&[1], &[2, 3]]);
        assert_eq!(batch.tokens, [5, 6, 2, 7, 2]);
        assert_eq!(batch.sequences.positions(), [0, 1, 2, 0, 1]);
        assert_eq!(batch.sequences.spans()[1], Span::after(0..2, 2..3));
        assert_eq!(batch.places, [1, 2, 3, 4]);
        assert_eq!(batch.targets, [(0, 1), (0, 2), (1, 3), (2, 1), (2, 2), (3, 3)]);
        assert_eq!(batch.target_rows, [0, 1, 1, 2, 3, 3]);
    }

    #[test]
    fn file_order_wraps_around() {
        let mut rows = Rows::new(vec![1; 3], Order::File, 0, 2);
        assert_eq!(rows.take(5), [0, 1, 2, 0, 1]);
        assert_eq!(rows.take(2), [2, 0]);
    }

    #[test]
    fn each_epoch_is_a_new_permutation_and_the_seed_decides_it() {
        let mut rows = Rows::new(vec![1; 20], Order::Shuffle, 7, 2);
        let (first, second) = (rows.take(20), rows.take(20));
        let sorted = |rows: &[usize]| {
            let mut rows = rows.to_vec();
            rows.sort_unstable();
            rows
        };
        assert_eq!(sorted(&first), (0..20).collect::<Vec<_>>());
        assert_eq!(sorted(&second), sorted(&first));
        assert_ne!(first, second);
        assert_eq!(Rows::new(vec![1; 20], Order::Shuffle, 7, 2).take(20), first);
        assert_ne!(Rows::new(vec![1; 20], Order::Shuffle, 8, 2).take(20), first);
    }

    #[test]
    fn rows_of_like_length_come_together() {
        let lengths: Vec<usize> = (0..50).map(|row| row * 7 % 10).collect();
        let mut rows = Rows::new(lengths.clone(), Order::Length, 3, 4);
        let epoch = rows.take(50);
        let mut sorted = epoch.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        let spread = |batch: &[usize]| {
            let of_batch = batch.iter().map(|&row| lengths[row]);
            of_batch.clone().max().unwrap() - of_batch.min().unwrap()
        };
        assert!(epoch.chunks(4).all(|batch| spread(batch) <= 1), "{epoch:?}");
        let first: Vec<usize> = epoch.chunks(4).map(|batch| lengths[batch[0]]).collect();
        assert!(!first.is_sorted());
        // Fifty rows leave half a batch, which the second epoch fills up.
        let second = rows.take(50);
        assert_ne!(second, epoch);
        assert!(second[2..].chunks(4).all(|batch| spread(batch) <= 1), "{second:?}");
    }

    #[test]
    fn rows_of_like_depth_come_together() {
        let depths: Vec<usize> = (0..40).map(|row| row * 7 % 3).collect();
        for order in [Order::Shuffle, Order::Length] {
            let mut rows = Rows::new((0..40).map(|row| 5 + row % 9).collect(), order, 3, 4).of_depths(&depths);
            let first = rows.take(40);
            let mut all = first.clone();
            all.sort_unstable();
            assert!(all.iter().copied().eq(0..40));
            let mixed = |batch: &&[usize]| batch.iter().any(|&row| depths[row] != depths[batch[0]]);
            // Two borders between three depths.
            assert!(first.chunks(4).filter(mixed).count() <= 2, "{first:?}");
            assert_ne!(rows.take(40), first);
        }
    }

    #[test]
    fn no_rows_give_no_rows() {
        assert!(Rows::new(Vec::new(), Order::File, 0, 2).take(4).is_empty());
    }
}
