//! What differs by more than the noise.

use crate::compare::arm::ArmResult;
use crate::compare::spread::{Measure, Spread};

/// Standard errors that a difference must exceed to count as one.
const ERRORS: f64 = 2.0;

/// Which arm is best, and which others may be as good.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// By what.
    pub measure: Measure,
    /// Index of the best arm.
    pub best: usize,
    /// Of each arm that came to an end, in their order, the largest difference from the best that noise explains; `None`
    /// where nothing is known of it: losses of one seed each.
    pub noise: Option<Vec<f64>>,
    /// Arms that differ from the best by no more than the noise. Empty where the noise is not known.
    pub alike: Vec<usize>,
    /// Arms that are worse by more than the noise. Empty where the noise is not known.
    pub worse: Vec<usize>,
}

impl Verdict {
    /// Judges arms by accuracy where all have one, else by loss; `None` where no arm was trained to an end.
    ///
    /// The noise of a mean is that of its seeds (one variance for all arms, their mean) and, of an accuracy over n rows,
    /// p (1 − p) / n; a difference counts from two standard errors on.
    pub fn of(arms: &[ArmResult]) -> Option<Verdict> {
        let finished: Vec<usize> = (0..arms.len()).filter(|&arm| arms[arm].best.is_some()).collect();
        let measures = [Measure::Accuracy, Measure::Loss, Measure::HeldOutLoss];
        let measured = |measure| -> Option<Vec<(usize, Spread)>> {
            finished.iter().map(|&arm| Some((arm, arms[arm].spread(measure)?))).collect()
        };
        let (measure, spreads) = measures.into_iter().find_map(|measure| Some((measure, measured(measure)?)))?;
        let cost = |spread: &Spread| if measure == Measure::Accuracy { -spread.mean } else { spread.mean };
        let &(best, of_best) = spreads.iter().min_by(|a, b| cost(&a.1).total_cmp(&cost(&b.1)))?;

        let rows = arms[best].evaluated();
        let of_rows = |spread: &Spread| match measure {
            Measure::Accuracy => spread.mean * (1.0 - spread.mean) / rows.max(1) as f64,
            Measure::Loss | Measure::HeldOutLoss => 0.0,
        };
        let deviations: Vec<f64> = spreads.iter().filter_map(|(_, spread)| spread.deviation).collect();
        let of_seeds = match deviations.is_empty() {
            true if measure != Measure::Accuracy => None,
            true => Some(0.0),
            false => Some(deviations.iter().map(|deviation| deviation.powi(2)).sum::<f64>() / deviations.len() as f64),
        };
        let Some(of_seeds) = of_seeds else {
            return Some(Verdict { measure, best, noise: None, alike: Vec::new(), worse: Vec::new() });
        };
        let variance = |spread: &Spread| of_seeds / spread.seeds as f64 + of_rows(spread);
        let noise = |spread: &Spread| ERRORS * (variance(spread) + variance(&of_best)).sqrt();
        let is_alike = |spread: &Spread| cost(spread) - cost(&of_best) <= noise(spread);
        let others = spreads.iter().filter(|(arm, _)| *arm != best);
        let (alike, worse): (Vec<_>, Vec<_>) = others.partition(|(_, spread)| is_alike(spread));
        let arm = |(arm, _): &(usize, Spread)| *arm;
        Some(Verdict {
            measure,
            best,
            noise: Some(spreads.iter().map(|(_, spread)| noise(spread)).collect()),
            alike: alike.into_iter().map(arm).collect(),
            worse: worse.into_iter().map(arm).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::arm::tests::{arm, arm_of};

    /// Of 500 rows and 90 % one standard error is 1.3 points, and that of a difference 1.9.
    #[test]
    fn accuracies_within_the_noise_of_their_rows_are_alike() {
        let arms = [arm(&[(0.3, 0.90)]), arm(&[(0.2, 0.92)]), arm(&[(0.2, 0.85)])];
        let verdict = Verdict::of(&arms).unwrap();
        assert_eq!((verdict.measure, verdict.best), (Measure::Accuracy, 1));
        assert_eq!((verdict.alike, verdict.worse), (vec![0], vec![2]));
    }

    #[test]
    fn losses_of_one_seed_say_nothing_of_their_noise() {
        let verdict = Verdict::of(&[arm_of(&[0.3], None), arm_of(&[0.2], None)]).unwrap();
        assert_eq!((verdict.measure, verdict.best, verdict.noise), (Measure::HeldOutLoss, 1, None));
        let verdict = Verdict::of(&[arm_of(&[0.30, 0.32], None), arm_of(&[0.20, 0.21], None)]).unwrap();
        assert_eq!((verdict.best, verdict.worse), (1, vec![0]));
        let verdict = Verdict::of(&[arm_of(&[0.30, 0.22], None), arm_of(&[0.20, 0.24], None)]).unwrap();
        assert_eq!((verdict.best, verdict.alike), (1, vec![0]));
    }

    #[test]
    fn arms_that_diverged_are_left_out() {
        assert_eq!(Verdict::of(&[arm(&[])]), None);
        let verdict = Verdict::of(&[arm(&[]), arm(&[(0.2, 0.9)])]).unwrap();
        assert_eq!((verdict.best, verdict.worse, verdict.alike), (1, vec![], vec![]));
    }
}
