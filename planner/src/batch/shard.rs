//! A part of the sample for one machine of several: whole batches of the very grouping that one machine would run.
//!
//! The grouping is that of the whole sample, so each example is computed among the same rows and in the same shape
//! whatever the number of shards, and its trace is the same to the last bit.

use frostline_schemas::select::Shard;

use super::BatchGroup;

/// A shard of the sample.
pub type SampleShard = Shard;

/// A shard's batches out of all `groups`, in their order; none where there are more shards than batches. Every batch is in
/// exactly one shard.
pub(crate) fn take(shard: SampleShard, groups: &[BatchGroup]) -> Vec<BatchGroup> {
    let mut left: usize = groups.iter().map(|group| group.batches.len()).sum();
    let own = groups.iter().map(|group| {
        let pairs = group.batches.iter().zip(&group.examples);
        let own = pairs.filter(|_| {
            left -= 1;
            holds(shard, left)
        });
        let (batches, examples) = own.map(|(batch, examples)| (batch.clone(), examples.clone())).unzip();
        BatchGroup { shape: group.shape, batches, examples }
    });
    own.filter(|group| !group.batches.is_empty()).collect()
}

/// Whether a batch is in a shard, by its index when batches are counted from the longest rows down.
///
/// Dealt out in rounds whose direction alternates, so that no shard gets the longer batch in each of them.
fn holds(shard: SampleShard, index: usize) -> bool {
    let (round, turn) = (index / shard.of(), index % shard.of());
    shard.number() == if round.is_multiple_of(2) { turn + 1 } else { shard.of() - turn }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{self, BatchLimits};
    use frostline_schemas::data::{Example, Target};

    /// Groups of a few lengths; batches of two rows at most.
    fn groups(examples: usize) -> Vec<BatchGroup> {
        let example = |i: usize| Example::new(1, vec![1; 2 + i * 7 % 60], vec![Target { position: 0, token: 1 }]);
        let examples: Vec<Example> = (0..examples).map(example).collect();
        batch::groups(&examples, BatchLimits { tokens: 128, length: 64 })
    }

    fn members(groups: &[BatchGroup]) -> Vec<Vec<usize>> {
        groups.iter().flat_map(|group| group.examples.clone()).collect()
    }

    #[test]
    fn every_batch_is_in_one_shard_and_in_its_own_shape() {
        let groups = groups(50);
        let mut all = members(&groups);
        all.sort();
        for of in [1, 2, 3, 7, 1000] {
            let mut found = Vec::new();
            for number in 1..=of {
                let own = take(SampleShard::new(number, of).unwrap(), &groups);
                assert!(own.iter().all(|group| groups.iter().any(|all| all.shape == group.shape)));
                assert!(own.iter().all(|group| group.batches.len() == group.examples.len()));
                found.extend(members(&own));
            }
            found.sort();
            assert_eq!(found, all, "{of} shards");
        }
        assert_eq!(members(&take(SampleShard::WHOLE, &groups)), members(&groups));
    }

    #[test]
    fn shards_are_of_like_size() {
        let groups = groups(400);
        let tokens = |number: usize| -> usize {
            let own = take(SampleShard::new(number, 4).unwrap(), &groups);
            own.iter().map(|group| group.shape.rows * group.shape.length * group.batches.len()).sum()
        };
        let sizes: Vec<usize> = (1..=4).map(tokens).collect();
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!(most - least <= 128, "{sizes:?}");
    }
}
