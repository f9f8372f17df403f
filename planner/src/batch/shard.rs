//! A part of the sample for one machine of several: whole batches of the very grouping that one machine would run.
//!
//! The grouping is that of the whole sample, so each example is computed among the same rows and in the same shape
//! whatever the number of shards, and its trace is the same to the last bit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::BatchGroup;

/// Shard K of N, counted from 1; written `K/N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SampleShard {
    number: usize,
    of: usize,
}

/// Text that names no [`SampleShard`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no shard; write K/N with K from 1 to N, such as 3/16")]
pub struct NotAShard(String);

impl SampleShard {
    /// The one shard of a machine that is alone.
    pub const WHOLE: SampleShard = SampleShard { number: 1, of: 1 };

    /// Shard `number` of `of`; `None` where `number` is not from 1 to `of`.
    pub fn new(number: usize, of: usize) -> Option<SampleShard> {
        (1..=of).contains(&number).then_some(SampleShard { number, of })
    }

    /// Which one it is, from 1.
    pub fn number(self) -> usize {
        self.number
    }

    /// How many there are.
    pub fn of(self) -> usize {
        self.of
    }

    /// The shard's batches out of all `groups`, in their order; none where there are more shards than batches. Every
    /// batch is in exactly one shard.
    pub fn take(self, groups: &[BatchGroup]) -> Vec<BatchGroup> {
        let mut left: usize = groups.iter().map(|group| group.batches.len()).sum();
        let own = groups.iter().map(|group| {
            let pairs = group.batches.iter().zip(&group.examples);
            let own = pairs.filter(|_| {
                left -= 1;
                self.holds(left)
            });
            let (batches, examples) = own.map(|(batch, examples)| (batch.clone(), examples.clone())).unzip();
            BatchGroup { shape: group.shape, batches, examples }
        });
        own.filter(|group| !group.batches.is_empty()).collect()
    }

    /// Whether a batch is in this shard, by its index when batches are counted from the longest rows down.
    ///
    /// Dealt out in rounds whose direction alternates, so that no shard gets the longer batch in each of them.
    fn holds(self, index: usize) -> bool {
        let (round, turn) = (index / self.of, index % self.of);
        self.number == if round.is_multiple_of(2) { turn + 1 } else { self.of - turn }
    }
}

impl fmt::Display for SampleShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for SampleShard {
    type Err = NotAShard;

    fn from_str(text: &str) -> Result<SampleShard, NotAShard> {
        let numbers = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        let shard = numbers.and_then(|(number, of)| SampleShard::new(number, of));
        shard.ok_or_else(|| NotAShard(text.chars().take(100).collect()))
    }
}

impl TryFrom<String> for SampleShard {
    type Error = NotAShard;

    fn try_from(text: String) -> Result<SampleShard, NotAShard> {
        text.parse()
    }
}

impl From<SampleShard> for String {
    fn from(shard: SampleShard) -> String {
        shard.to_string()
    }
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
                let own = SampleShard::new(number, of).unwrap().take(&groups);
                assert!(own.iter().all(|group| groups.iter().any(|all| all.shape == group.shape)));
                assert!(own.iter().all(|group| group.batches.len() == group.examples.len()));
                found.extend(members(&own));
            }
            found.sort();
            assert_eq!(found, all, "{of} shards");
        }
        assert_eq!(members(&SampleShard::WHOLE.take(&groups)), members(&groups));
    }

    #[test]
    fn shards_are_of_like_size() {
        let groups = groups(400);
        let tokens = |number: usize| -> usize {
            let own = SampleShard::new(number, 4).unwrap().take(&groups);
            own.iter().map(|group| group.shape.rows * group.shape.length * group.batches.len()).sum()
        };
        let sizes: Vec<usize> = (1..=4).map(tokens).collect();
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!(most - least <= 128, "{sizes:?}");
    }

    #[test]
    fn shards_are_written_as_fractions() {
        let shard: SampleShard = "3/16".parse().unwrap();
        assert_eq!((shard.number(), shard.of(), shard.to_string()), (3, 16, "3/16".into()));
        for bad in ["", "3", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "a/b", " 1/2", "1/99999999999999999999999"] {
            assert!(bad.parse::<SampleShard>().is_err(), "{bad}");
        }
    }
}
