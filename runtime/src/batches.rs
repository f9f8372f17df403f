//! Examples into batches: which rows a step takes, and how they lie side by side.

use frostline_schemas::examples::Example;
use frostline_schemas::run::Order;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::error::Error;

/// What stands at padded places. Any token does: causal attention hides what comes after a row's last token.
const PADDING: u32 = 0;

/// Rows side by side, padded on the right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// Places of each row: the length of the longest.
    pub sequence: usize,
    /// [rows · sequence], row by row.
    pub tokens: Vec<u32>,
    /// Where targets are predicted: row · sequence + position, row by row.
    pub places: Vec<u32>,
    /// The tokens to predict there.
    pub targets: Vec<u32>,
    /// The row of each target.
    pub target_rows: Vec<u32>,
    /// Line of the longest row in its file, to name it by; 0 without rows.
    pub longest: u64,
}

/// The most rows of a step, and the most places of a batch, padding included: far more than any machine trains at once,
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
    /// Lays examples side by side.
    pub fn new<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Batch {
        let examples: Vec<&Example> = examples.into_iter().collect();
        let longest = examples.iter().max_by_key(|example| example.tokens.len());
        let (sequence, longest) = longest.map_or((0, 0), |example| (example.tokens.len(), example.line));
        let mut batch = Batch {
            rows: examples.len(),
            sequence,
            tokens: Vec::with_capacity(examples.len() * sequence),
            places: Vec::new(),
            targets: Vec::new(),
            target_rows: Vec::new(),
            longest,
        };
        for (row, example) in examples.iter().enumerate() {
            batch.tokens.extend(&example.tokens);
            batch.tokens.resize((row + 1) * sequence, PADDING);
            for target in &example.targets {
                batch.places.push((row * sequence) as u32 + target.position);
                batch.targets.push(target.token);
                batch.target_rows.push(row as u32);
            }
        }
        batch
    }
}

/// The order in which the rows of a data set are taken, without end.
#[derive(Clone, Debug)]
pub struct Rows {
    order: Order,
    random: ChaCha8Rng,
    rows: Vec<usize>,
    next: usize,
}

impl Rows {
    /// Rows 0 to `count − 1`: as they stand, or shuffled anew for each epoch. The same seed gives the same order on
    /// every machine.
    pub fn new(count: usize, order: Order, seed: u64) -> Rows {
        Rows { order, random: ChaCha8Rng::seed_from_u64(seed), rows: (0..count).collect(), next: count }
    }

    /// The next `count` rows; an epoch's end is no end.
    pub fn take(&mut self, count: usize) -> Vec<usize> {
        (0..if self.rows.is_empty() { 0 } else { count }).map(|_| self.one()).collect()
    }

    fn one(&mut self) -> usize {
        if self.next == self.rows.len() {
            self.next = 0;
            if self.order == Order::Shuffle {
                self.rows.shuffle(&mut self.random);
            }
        }
        self.next += 1;
        self.rows[self.next - 1]
    }
}

/// Steps that take every row `epochs` times, the last step filled up from the next epoch.
pub fn steps_of_epochs(epochs: f64, rows: usize, rows_per_step: usize) -> u64 {
    (epochs * rows as f64 / rows_per_step.max(1) as f64).ceil().max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use frostline_schemas::examples::Target;

    fn example(tokens: &[u32], positions: &[u32]) -> Example {
        let targets = positions.iter().map(|&position| Target { position, token: tokens[position as usize + 1] });
        Example::new(1, tokens.to_vec(), targets.collect())
    }

    #[test]
    fn rows_are_padded_on_the_right() {
        let batch = Batch::new([&example(&[5, 6, 7], &[1]), &example(&[8, 9], &[0])]);
        assert_eq!((batch.rows, batch.sequence, batch.longest), (2, 3, 1));
        assert_eq!(batch.tokens, [5, 6, 7, 8, 9, PADDING]);
        assert_eq!((batch.places, batch.targets, batch.target_rows), (vec![1, 3], vec![7, 9], vec![0, 1]));
    }

    #[test]
    fn file_order_wraps_around() {
        let mut rows = Rows::new(3, Order::File, 0);
        assert_eq!(rows.take(5), [0, 1, 2, 0, 1]);
        assert_eq!(rows.take(2), [2, 0]);
    }

    #[test]
    fn each_epoch_is_a_new_permutation_and_the_seed_decides_it() {
        let mut rows = Rows::new(20, Order::Shuffle, 7);
        let (first, second) = (rows.take(20), rows.take(20));
        let sorted = |rows: &[usize]| {
            let mut rows = rows.to_vec();
            rows.sort_unstable();
            rows
        };
        assert_eq!(sorted(&first), (0..20).collect::<Vec<_>>());
        assert_eq!(sorted(&second), sorted(&first));
        assert_ne!(first, second);
        assert_eq!(Rows::new(20, Order::Shuffle, 7).take(20), first);
        assert_ne!(Rows::new(20, Order::Shuffle, 8).take(20), first);
    }

    #[test]
    fn no_rows_give_no_rows() {
        assert!(Rows::new(0, Order::File, 0).take(4).is_empty());
    }
}
