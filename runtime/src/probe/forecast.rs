//! From short trainings to what a whole one gives.
//!
//! The loss of a training whose rate decays over n steps falls by a power of n. How an arm will stand beside full training
//! is a mean of what was measured and of what is known beforehand, each weighted by how sure it is: short trainings favour
//! what trains little, as it needs few steps for the most of what it can.

/// What is known beforehand of the exponent of the steps: where completions are labels (Gemma 3 270M on TREC between 24 and
/// 340 steps: 0.69 to 0.80), and where they are text, whose loss has a floor.
const OF_LABELS: f64 = 0.75;
const OF_TEXT: f64 = 0.15;
/// How much of the exponent is what was seen: the first steps of a training fall by another power than the later ones.
const SEEN: f64 = 0.25;
/// Beyond this no loss is believed to fall on.
const STEEPEST: f64 = 1.0;
/// Two trainings of n steps that differ in nothing but chance end so far apart, in logarithms: this times ln(first loss /
/// last loss) / √n. Seen on Gemma 3 270M with 17 and 24 steps.
const CHANCE: f64 = 0.3;
/// What a whole training loses that trains a part of all weights: so much of ln(first loss / last loss), times the share of
/// the weights that it leaves. Gemma 3 270M after 340 steps on TREC: 0.10 to 0.16.
const LOSS_OF_PARTS: f64 = 0.1;
/// How unsure that is, as the same share of the fall.
const UNSURE: f64 = 0.05;

/// Losses that have hardly fallen vary as if they had fallen so far.
const LEAST_FALL: f64 = 0.2;

/// A training's mean loss on the rows held back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    pub steps: u64,
    pub loss: f64,
}

impl Measured {
    /// The loss after so many steps: `loss · (steps / n)^exponent` after n.
    pub(super) fn after(&self, steps: u64, exponent: f64) -> f64 {
        self.loss * (self.steps.max(1) as f64 / steps.max(1) as f64).powf(exponent)
    }

    /// The variance of its logarithm by chance, where the loss was `first` before.
    pub(super) fn variance(&self, first: f64) -> f64 {
        (CHANCE * fall(first, self.loss).max(LEAST_FALL)).powi(2) / self.steps.max(1) as f64
    }
}

/// ln(first loss / last loss), at least 0.
pub(super) fn fall(first: f64, last: f64) -> f64 {
    let fall = (first / last).ln();
    if fall.is_finite() { fall.max(0.0) } else { 0.0 }
}

/// The logarithm of the ratio of two losses, and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ratio {
    pub log: f64,
    pub variance: f64,
}

impl Ratio {
    /// What is known beforehand of an arm that trains this share of all weights, against full training whose loss falls by
    /// `fall`.
    pub(super) fn beforehand(trained: f64, fall: f64) -> Ratio {
        let left = 1.0 - trained.clamp(0.0, 1.0);
        Ratio { log: LOSS_OF_PARTS * fall * left, variance: (UNSURE * fall.max(LEAST_FALL)).powi(2) }
    }

    /// The mean of what was seen and of what was known, each weighted by how sure it is. What is seen to be farther off
    /// than either explains was not known well.
    pub(super) fn with_known(self, known: Ratio) -> Ratio {
        let surprise = (self.log - known.log).powi(2) - self.variance;
        let [seen, before] = [self.variance, known.variance.max(surprise)].map(|variance| 1.0 / variance.max(1e-9));
        Ratio { log: (seen * self.log + before * known.log) / (seen + before), variance: 1.0 / (seen + before) }
    }
}

/// What completions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Labels, which are learned.
    Labels,
    /// Labels that were not seen to be learned: their loss is not taken to fall on.
    Unlearned,
    Text,
}

/// How fast losses fall: the mean of what is known beforehand and of the exponents of arms of which there are a shorter and
/// a longer training. One for all arms, as their own are noisier than they differ.
pub(super) fn exponent(pairs: &[(Measured, Measured)], kind: Kind) -> f64 {
    let of_pair = |(short, long): &(Measured, Measured)| {
        let steps = (long.steps as f64 / short.steps as f64).ln();
        (steps > 0.0).then(|| (short.loss / long.loss).ln() / steps).filter(|exponent| exponent.is_finite())
    };
    let found: Vec<f64> = pairs.iter().filter_map(of_pair).collect();
    let known = match kind {
        Kind::Labels => OF_LABELS,
        Kind::Text => OF_TEXT,
        Kind::Unlearned => return 0.0,
    };
    match found.len() {
        0 => known,
        count => {
            let seen = (found.iter().sum::<f64>() / count as f64).clamp(0.0, STEEPEST);
            SEEN * seen + (1.0 - SEEN) * known
        }
    }
}

/// How accuracies follow from losses: `1 − accuracy = factor · loss^power`, fitted to what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Accuracies {
    factor: f64,
    power: f64,
}

impl Accuracies {
    /// Least squares of the logarithms, with accuracies on so many rows. The power is 1 where losses hardly differ, and from
    /// 0.5 to 1.5 otherwise; `None` without any point.
    pub(super) fn fit(points: &[(f64, f64)], rows: usize) -> Option<Accuracies> {
        // Where all rows are right, half of one more would be wrong.
        let least = 0.5 / rows.max(1) as f64;
        let logs = points.iter().filter(|(loss, _)| *loss > 0.0);
        let logs: Vec<(f64, f64)> =
            logs.map(|(loss, accuracy)| (loss.ln(), (1.0 - accuracy).max(least).ln())).collect();
        let count = logs.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|log| log.0), mean(|log| log.1));
        let covariance: f64 = logs.iter().map(|log| (log.0 - x) * (log.1 - y)).sum();
        let variance: f64 = logs.iter().map(|log| (log.0 - x).powi(2)).sum();
        let power = if variance > 0.1 { (covariance / variance).clamp(0.5, 1.5) } else { 1.0 };
        (!logs.is_empty()).then(|| Accuracies { factor: (y - power * x).exp(), power })
    }

    /// The accuracy that goes with a loss.
    pub(super) fn at(&self, loss: f64) -> f64 {
        (1.0 - self.factor * loss.max(0.0).powf(self.power)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_power_law_is_found_and_followed() {
        let at = |steps: u64| Measured { steps, loss: 2.0 * (steps as f64).powf(-0.3) };
        let exponent = exponent(&[(at(10), at(30)), (at(8), at(16))], Kind::Text);
        assert!((exponent - (0.25 * 0.3 + 0.75 * OF_TEXT)).abs() < 1e-12);
        assert!((at(10).after(500, 0.3) - at(500).loss).abs() < 1e-12);
        assert_eq!(super::exponent(&[], Kind::Labels), OF_LABELS);
        assert_eq!(super::exponent(&[(at(30), at(30))], Kind::Text), OF_TEXT);
    }

    #[test]
    fn a_loss_that_rises_is_not_believed_to_rise_on() {
        let pair = (Measured { steps: 10, loss: 1.0 }, Measured { steps: 20, loss: 1.5 });
        assert_eq!(exponent(&[pair], Kind::Labels), 0.75 * OF_LABELS);
        assert_eq!(exponent(&[pair], Kind::Unlearned), 0.0);
    }

    #[test]
    fn errors_follow_losses() {
        let points = [0.2, 0.5, 1.0].map(|loss: f64| (loss, 1.0 - 0.4 * loss.powf(0.8)));
        let accuracies = Accuracies::fit(&points, 500).unwrap();
        assert!((accuracies.at(0.1) - (1.0 - 0.4 * 0.1f64.powf(0.8))).abs() < 1e-9);
        assert_eq!(Accuracies::fit(&[(0.5, 0.8), (0.51, 0.7)], 50).unwrap().power, 1.0);
        assert_eq!(Accuracies::fit(&[(0.5, 1.0)], 50).unwrap().at(0.5), 0.99);
        assert_eq!(Accuracies::fit(&[], 50), None);
    }

    #[test]
    fn what_is_surer_counts_more() {
        let (sure, unsure) = (Ratio { log: 0.0, variance: 0.01 }, Ratio { log: 1.0, variance: 0.09 });
        let near = Ratio { log: 0.3, ..unsure };
        let both = sure.with_known(near);
        assert!((both.log - 0.03).abs() < 1e-12 && (both.variance - 0.009).abs() < 1e-12);
        // What is far from what was expected is believed.
        assert!(sure.with_known(unsure).log < 0.02);
        // Of full training nothing is lost, and of half of it more the further the loss falls.
        assert_eq!(Ratio::beforehand(1.0, 4.0).log, 0.0);
        assert!((Ratio::beforehand(0.5, 4.0).log - 0.2).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn more_steps_never_promise_a_larger_loss(
            loss in 0.01f64..9.0, steps in 1u64..100, more in 1u64..1000, exponent in 0.0f64..1.0
        ) {
            let measured = Measured { steps, loss };
            prop_assert!(measured.after(steps + more, exponent) <= loss);
        }

        #[test]
        fn a_mean_lies_between_and_is_surer(a in -2f64..2.0, b in -2f64..2.0, va in 1e-4f64..1.0, vb in 1e-4f64..1.0) {
            let mean = Ratio { log: a, variance: va }.with_known(Ratio { log: b, variance: vb });
            prop_assert!(mean.log >= a.min(b) - 1e-9 && mean.log <= a.max(b) + 1e-9);
            prop_assert!(mean.variance <= va + 1e-12);
        }
    }
}
