//! Samples drawn by a seed.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The random numbers that resamples are drawn with; samples are drawn with stream 0.
const RESAMPLES: u64 = 1;

/// `count` out of `all` by a seed, without repetition, in the order drawn; everything where `count ≥ all`.
///
/// A longer draw begins with a shorter one. The same seed gives the same draw on every machine and in every release.
pub fn draw(all: usize, count: usize, seed: u64) -> Vec<usize> {
    let count = count.min(all);
    let mut indices: Vec<usize> = (0..all).collect();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for i in 0..count {
        let j = random.random_range(i as u64..all as u64) as usize;
        indices.swap(i, j);
    }
    indices.truncate(count);
    indices
}

/// What [`draw`] gives, in ascending order.
pub fn sample(all: usize, count: usize, seed: u64) -> Vec<usize> {
    if count >= all {
        return (0..all).collect();
    }
    let mut indices = draw(all, count, seed);
    indices.sort_unstable();
    indices
}

/// Resamples of so many by a seed, without end: each as many of them, with repetition (the bootstrap).
pub fn resamples(of: usize, seed: u64) -> impl Iterator<Item = Vec<usize>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(RESAMPLES);
    std::iter::repeat_with(move || (0..of).map(|_| random.random_range(0..of as u64) as usize).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_longer_draw_begins_with_a_shorter_one(all in 0usize..300, count in 0usize..300, seed: u64) {
            let longest = draw(all, all, seed);
            let mut shorter = draw(all, count, seed);
            prop_assert_eq!(&longest[..count.min(all)], &shorter[..]);
            shorter.sort_unstable();
            prop_assert_eq!(shorter, sample(all, count, seed));
        }
    }

    #[test]
    fn resamples_are_the_same_each_time_and_repeat_themselves() {
        let first: Vec<Vec<usize>> = resamples(5, 7).take(40).collect();
        assert_eq!(first, resamples(5, 7).take(40).collect::<Vec<_>>());
        assert_ne!(first, resamples(5, 8).take(40).collect::<Vec<_>>());
        assert!(first.iter().all(|chosen| chosen.len() == 5 && chosen.iter().all(|&index| index < 5)));
        assert!(first.iter().any(|chosen| (0..5).any(|index| !chosen.contains(&index))));
        assert_eq!(resamples(0, 7).next(), Some(Vec::new()));
    }
}
