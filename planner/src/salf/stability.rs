//! How much a frost line depends on which examples were drawn: the bootstrap.

use frostline_schemas::plan::Stability;
use frostline_schemas::select::resamples;
use frostline_schemas::units::significant;

/// Resamples that are looked at.
const RESAMPLES: usize = 1000;
/// What is left out on either side of the range.
const TAIL: f64 = 0.025;

/// Of a frost line that so many examples give; `of` is what a resample of them gives.
pub(super) fn stability(examples: usize, seed: u64, frost_line: usize, of: impl Fn(&[usize]) -> usize) -> Stability {
    let mut found: Vec<usize> = resamples(examples, seed).take(RESAMPLES).map(|chosen| of(&chosen)).collect();
    found.sort_unstable();
    let last = (RESAMPLES - 1) as f64;
    let agree = found.iter().filter(|&&line| line == frost_line).count();
    Stability {
        agree: significant(agree as f64 / RESAMPLES as f64),
        low: found[(TAIL * last).floor() as usize],
        high: found[((1.0 - TAIL) * last).ceil() as usize],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_all_examples_are_alike_all_resamples_agree() {
        assert_eq!(stability(20, 0, 3, |_| 3), Stability { agree: 1.0, low: 3, high: 3 });
    }

    #[test]
    fn a_range_holds_all_but_the_tails() {
        // The number of times that one example of 100 is drawn: 0 in 0.366 of resamples, 1 in 0.370, 3 or fewer in 0.982.
        let found = stability(100, 0, 1, |chosen| chosen.iter().filter(|&&index| index == 7).count());
        assert!((found.agree - 0.37).abs() < 0.04, "{found:?}");
        assert_eq!((found.low, found.high), (0, 3));
    }

    #[test]
    fn a_line_is_stable_where_nearly_all_resamples_agree() {
        let stable = |agree| Stability { agree, low: 3, high: 4 }.is_stable();
        assert!(stable(0.95) && !stable(0.94));
    }
}
