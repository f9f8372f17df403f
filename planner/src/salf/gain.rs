//! From a trace of deviations to gains, and from gains to an end-of-freezing layer.
//!
//! "SALF, re-derived": the paper (arXiv 2406.11753) derives its gain from the scaling law; the formula here is our own
//! reading of that, since the paper's text could not be had.

use frostline_schemas::plan::Gain;
use frostline_schemas::select::{ScoreOrigin, Scores, Ties};

/// What a deviation that is not positive counts as.
const LEAST: f64 = 1e-6;

/// Gains of layers 1 … L from the deviations of spaces 0 … L.
///
/// Power law: the scaling law L(N) = (N_c/N)^α says that ln L falls by α for each unit of ln N. With the layers passed,
/// plus one, as N, the exponent at layer i is ln(d_{i−1}/d_i) / ln((i+1)/i).
pub(super) fn gains(trace: &[f64], gain: Gain) -> Scores<usize> {
    let deviations: Vec<f64> = trace.iter().map(|&d| if d <= 0.0 { LEAST } else { d }).collect();
    let pairs = deviations.windows(2).enumerate();
    let of_layers = pairs.map(|(below, pair)| match gain {
        Gain::PowerLaw => (pair[0] / pair[1]).ln() / ((below + 2) as f64 / (below + 1) as f64).ln(),
        Gain::Difference => pair[0] - pair[1],
    });
    Scores::of_layers(ScoreOrigin::ForwardPass, of_layers)
}

/// The layer of the largest gain among 1 … L − `min_trainable`, the lower on ties; 0 if no gain is positive.
pub(super) fn end_of_freezing(gains: &Scores<usize>, min_trainable: usize) -> usize {
    let candidates = gains.iter().count().saturating_sub(min_trainable);
    let ranked = gains.ranked(Ties::LowerFirst).into_iter();
    ranked.filter(|&(&layer, gain)| layer <= candidates && gain > 0.0).map(|(layer, _)| *layer).next().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gains_of(trace: &[f64], gain: Gain) -> Vec<f64> {
        gains(trace, gain).iter().map(|(_, gain)| gain).collect()
    }

    fn end(gains: &[f64], min_trainable: usize) -> usize {
        end_of_freezing(&Scores::of_layers(ScoreOrigin::ForwardPass, gains.iter().copied()), min_trainable)
    }

    #[test]
    fn power_law_is_the_local_exponent() {
        // d = N^(-1/2) with N = 1, 2, 3 has the exponent 1/2 at every layer.
        let trace = [1.0, 2f64.powf(-0.5), 3f64.powf(-0.5)];
        for gain in gains_of(&trace, Gain::PowerLaw) {
            assert!((gain - 0.5).abs() < 1e-12);
        }
        // ln(0.8/0.4) / ln(2/1) = 1; ln(0.4/0.3) / ln(3/2) = 0.28768207 / 0.40546511.
        let found = gains_of(&[0.8, 0.4, 0.3], Gain::PowerLaw);
        assert!((found[0] - 1.0).abs() < 1e-12);
        assert!((found[1] - 0.709_511_291).abs() < 1e-8);
    }

    #[test]
    fn difference_is_what_a_layer_takes_off() {
        let found = gains_of(&[0.75, 0.5, 0.625], Gain::Difference);
        assert_eq!(found, [0.25, -0.125]);
    }

    #[test]
    fn deviations_that_are_not_positive_are_clamped() {
        let found = gains_of(&[1e-6, 0.0, -0.5], Gain::PowerLaw);
        assert_eq!(found, [0.0, 0.0]);
    }

    #[test]
    fn the_largest_gain_ends_freezing_and_ties_go_down() {
        assert_eq!(end(&[0.1, 0.5, 0.5, 0.2], 1), 2);
        // The last layer is no candidate.
        assert_eq!(end(&[0.1, 0.2, 0.9], 1), 2);
        assert_eq!(end(&[0.1, 0.2, 0.9], 2), 1);
        assert_eq!(end(&[0.1, 0.2, 0.9], 0), 3);
    }

    #[test]
    fn nothing_is_frozen_without_a_positive_gain() {
        assert_eq!(end(&[-0.1, 0.0, 0.9], 1), 0);
        assert_eq!(end(&[0.9], 5), 0);
    }
}
