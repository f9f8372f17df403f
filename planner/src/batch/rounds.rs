//! The rounds that a sample is run in: each as many examples as all before it, so that running can stop once enough is
//! known and has then cost at most twice what was needed.
//!
//! Batches never cross rounds. So an example is computed among the same rows and in the same shape however large the
//! sample is, and its trace is the same to the last bit.

use std::ops::Range;

use frostline_schemas::data::Example;

use super::{BatchGroup, BatchLimits};

/// Examples of the first round.
const FIRST: usize = 32;
/// Examples after which all others are one round.
pub(crate) const MOST: usize = 256;

/// The rounds of a sample of so many examples, each the places of its own.
pub(crate) fn rounds(examples: usize) -> Vec<Range<usize>> {
    let mut rounds = Vec::new();
    let mut end = 0;
    while end < examples {
        let start = end;
        end = match start {
            0 => FIRST,
            MOST.. => examples,
            _ => start * 2,
        };
        end = end.min(examples);
        rounds.push(start..end);
    }
    rounds
}

/// The batches of one round. Their examples' numbers are those in the whole sample.
pub(crate) fn groups(examples: &[Example], round: Range<usize>, limits: BatchLimits) -> Vec<BatchGroup> {
    let mut groups = super::groups(examples.get(round.clone()).unwrap_or_default(), limits);
    let numbers = groups.iter_mut().flat_map(|group| group.examples.iter_mut().flatten());
    numbers.for_each(|number| *number += round.start);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use frostline_schemas::data::Target;

    #[test]
    fn rounds_double_the_sample_up_to_a_point() {
        assert!(rounds(0).is_empty());
        assert_eq!(rounds(20), [0..20]);
        assert_eq!(rounds(100), [0..32, 32..64, 64..100]);
        assert_eq!(rounds(256), [0..32, 32..64, 64..128, 128..256]);
        assert_eq!(rounds(5000), [0..32, 32..64, 64..128, 128..256, 256..5000]);
    }

    #[test]
    fn a_larger_sample_begins_with_the_batches_of_a_smaller_one() {
        let example = |i: usize| Example::new(1, vec![7; 3 + i * 7 % 40], vec![Target { position: 0, token: 1 }]);
        let examples: Vec<Example> = (0..300).map(example).collect();
        let limits = BatchLimits { tokens: 128, length: 64 };
        let of = |count: usize| -> Vec<String> {
            let groups = rounds(count).into_iter().flat_map(|round| groups(&examples[..count], round, limits));
            groups.map(|group| format!("{group:?}")).collect()
        };
        let (small, large) = (of(64), of(300));
        assert_eq!(small, large[..small.len()]);
    }

    #[test]
    fn each_example_is_in_one_round() {
        let examples: Vec<Example> = (0..100).map(|i| Example::new(1, vec![7; 3 + i % 5], Vec::new())).collect();
        let limits = BatchLimits { tokens: 128, length: 64 };
        let groups = rounds(100).into_iter().flat_map(|round| groups(&examples, round, limits));
        let mut numbers: Vec<usize> = groups.flat_map(|group| group.examples.into_iter().flatten()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    }
}
