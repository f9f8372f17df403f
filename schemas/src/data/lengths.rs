//! How long examples are.

use crate::data::Example;

/// Lengths of examples, in tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Tokens of all examples.
    pub tokens: u64,
    /// Targets of all examples.
    pub targets: u64,
    /// Of the shortest example.
    pub shortest: usize,
    /// Of the longest.
    pub longest: usize,
    /// Of the example in the middle.
    pub median: usize,
    /// Examples of so many tokens at most, and more than the entry before: powers of two, up to the longest.
    pub histogram: Vec<(usize, u64)>,
}

impl Lengths {
    /// The lengths of these examples.
    pub fn of(examples: &[Example]) -> Lengths {
        let mut lengths: Vec<usize> = examples.iter().map(|example| example.tokens.len()).collect();
        lengths.sort_unstable();
        let (Some(&shortest), Some(&longest)) = (lengths.first(), lengths.last()) else { return Lengths::default() };
        let mut histogram = Vec::new();
        let (mut counted, mut bound) = (0, shortest.next_power_of_two());
        while counted < lengths.len() {
            let upto = lengths.partition_point(|&length| length <= bound);
            histogram.push((bound, (upto - counted) as u64));
            (counted, bound) = (upto, bound.saturating_mul(2));
        }
        Lengths {
            tokens: lengths.iter().map(|&length| length as u64).sum(),
            targets: examples.iter().map(|example| example.targets.len() as u64).sum(),
            shortest,
            longest,
            median: lengths[lengths.len() / 2],
            histogram,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_counted_in_powers_of_two() {
        let examples: Vec<Example> =
            [3, 4, 5, 20].iter().map(|&length| Example::new(1, vec![0; length], Vec::new())).collect();
        let lengths = Lengths::of(&examples);
        assert_eq!(lengths.histogram, [(4, 2), (8, 1), (16, 0), (32, 1)]);
        assert_eq!((lengths.shortest, lengths.median, lengths.longest, lengths.tokens), (3, 5, 20, 32));
        assert_eq!(Lengths::of(&[]), Lengths::default());
    }
}
