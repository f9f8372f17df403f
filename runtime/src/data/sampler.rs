//! The order in which the rows of a data set are taken.

use frostline_schemas::run::Order;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The order in which the rows of a data set are taken, without end.
#[derive(Clone, Debug)]
pub struct Sampler {
    order: Order,
    random: ChaCha8Rng,
    lengths: Vec<usize>,
    /// Of each row; empty where all rows have one frost line.
    frost_lines: Vec<usize>,
    batch_size: usize,
    rows: Vec<usize>,
    next: usize,
    /// Rows taken so far, of all epochs.
    taken: usize,
}

/// Batches among which rows are sorted by length: few enough that an epoch's order is still much of a shuffle.
const BUCKET: usize = 32;

impl Sampler {
    /// Rows of these lengths, in tokens: as they stand, or in another order for each epoch. The same seed gives the same
    /// order on every machine.
    pub fn new(lengths: Vec<usize>, order: Order, seed: u64, batch_size: usize) -> Sampler {
        let (random, rows): (_, Vec<usize>) = (ChaCha8Rng::seed_from_u64(seed), (0..lengths.len()).collect());
        Sampler {
            order,
            random,
            batch_size: batch_size.max(1),
            next: rows.len(),
            lengths,
            frost_lines: Vec::new(),
            rows,
            taken: 0,
        }
    }

    /// The same, with rows of equal frost lines in one batch; there is one for each row, or none at all.
    pub fn grouped_by(self, frost_lines: &[usize]) -> Sampler {
        Sampler { frost_lines: frost_lines.to_vec(), ..self }
    }

    /// The next `count` rows; it goes on into the next epoch where one ends.
    pub fn take(&mut self, count: usize) -> Vec<usize> {
        (0..if self.rows.is_empty() { 0 } else { count }).map(|_| self.one()).collect()
    }

    fn one(&mut self) -> usize {
        if self.next == self.rows.len() {
            self.next = 0;
            match self.order {
                Order::File => (),
                Order::Shuffle if self.frost_lines.is_empty() => self.rows.shuffle(&mut self.random),
                Order::Shuffle | Order::Length => self.shuffle_alike(),
            }
        }
        self.next += 1;
        self.taken = self.taken.wrapping_add(1);
        self.rows[self.next - 1]
    }

    /// Shuffles, sorts the rows by frost line and those of some batches by length, and shuffles the batches. The first rows
    /// fill up the batch that the epoch before has begun, so that those after them stay together.
    fn shuffle_alike(&mut self) {
        self.rows.shuffle(&mut self.random);
        let begun = self.taken % self.batch_size;
        let first = ((self.batch_size - begun) % self.batch_size).min(self.rows.len());
        let (filling, rest) = self.rows.split_at_mut(first);
        rest.sort_by_key(|&row| self.frost_lines.get(row).copied());
        if self.order == Order::Length {
            let alike = |a: &usize, b: &usize| self.frost_lines.get(*a) == self.frost_lines.get(*b);
            let of_one_frost_line = rest.chunk_by_mut(alike);
            for bucket in of_one_frost_line.flat_map(|rows| rows.chunks_mut(self.batch_size.saturating_mul(BUCKET))) {
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

    #[test]
    fn file_order_wraps_around() {
        let mut rows = Sampler::new(vec![1; 3], Order::File, 0, 2);
        assert_eq!(rows.take(5), [0, 1, 2, 0, 1]);
        assert_eq!(rows.take(2), [2, 0]);
    }

    #[test]
    fn each_epoch_is_a_new_permutation_and_the_seed_decides_it() {
        let mut rows = Sampler::new(vec![1; 20], Order::Shuffle, 7, 2);
        let (first, second) = (rows.take(20), rows.take(20));
        let sorted = |rows: &[usize]| {
            let mut rows = rows.to_vec();
            rows.sort_unstable();
            rows
        };
        assert_eq!(sorted(&first), (0..20).collect::<Vec<_>>());
        assert_eq!(sorted(&second), sorted(&first));
        assert_ne!(first, second);
        assert_eq!(Sampler::new(vec![1; 20], Order::Shuffle, 7, 2).take(20), first);
        assert_ne!(Sampler::new(vec![1; 20], Order::Shuffle, 8, 2).take(20), first);
    }

    #[test]
    fn rows_of_like_length_come_together() {
        let lengths: Vec<usize> = (0..50).map(|row| row * 7 % 10).collect();
        let mut rows = Sampler::new(lengths.clone(), Order::Length, 3, 4);
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
    fn rows_of_equal_frost_lines_come_together() {
        let frost_lines: Vec<usize> = (0..40).map(|row| row * 7 % 3).collect();
        for order in [Order::Shuffle, Order::Length] {
            let mut rows = Sampler::new((0..40).map(|row| 5 + row % 9).collect(), order, 3, 4).grouped_by(&frost_lines);
            let first = rows.take(40);
            let mut all = first.clone();
            all.sort_unstable();
            assert!(all.iter().copied().eq(0..40));
            let mixed = |batch: &&[usize]| batch.iter().any(|&row| frost_lines[row] != frost_lines[batch[0]]);
            // Two borders between three frost lines.
            assert!(first.chunks(4).filter(mixed).count() <= 2, "{first:?}");
            assert_ne!(rows.take(40), first);
        }
    }

    #[test]
    fn no_rows_give_no_rows() {
        assert!(Sampler::new(Vec::new(), Order::File, 0, 2).take(4).is_empty());
    }
}
