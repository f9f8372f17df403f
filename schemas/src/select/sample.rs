//! Samples drawn by a seed.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A seeded sample of `count` out of `all`, without repetition, in ascending order; everything where `count ≥ all`.
///
/// The same seed gives the same sample on every machine and in every release.
pub fn sample(all: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..all).collect();
    if count >= all {
        return indices;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for i in 0..count {
        let j = random.random_range(i as u64..all as u64) as usize;
        indices.swap(i, j);
    }
    indices.truncate(count);
    indices.sort_unstable();
    indices
}
