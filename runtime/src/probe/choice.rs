//! Which arm is planned, of those whose result is predicted.

use frostline_schemas::plan::{Expected, ProbeRule, ProbeVerdict};

/// How far an arm's expected result is from another's, by the measure that decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    /// The standard deviation of the logarithm of the ratio of two expected losses.
    pub noise: f64,
    /// Whether accuracies decide.
    pub ranks: bool,
}

impl Judge {
    /// What an arm lacks against another: of accuracy in shares of all rows, else of loss as a share of the other's.
    fn lack(&self, arm: &Expected, other: &Expected) -> f64 {
        match (self.ranks, arm.accuracy, other.accuracy) {
            (true, Some(own), Some(other)) => other - own,
            _ => arm.loss / other.loss.max(f64::MIN_POSITIVE) - 1.0,
        }
    }

    /// How much of a lack noise explains: one standard deviation.
    fn explained(&self, arm: &Expected, other: &Expected) -> f64 {
        match (self.ranks, arm.accuracy, other.accuracy) {
            (true, Some(own), Some(other)) => self.noise * (1.0 - own.min(other)),
            _ => self.noise.exp() - 1.0,
        }
    }

    /// Whether what it lacks is beyond the tolerance by no more than noise explains.
    fn is_as_good(&self, arm: &Expected, other: &Expected, tolerance: f64) -> bool {
        self.lack(arm, other) <= tolerance + self.explained(arm, other)
    }

    /// The index of the arm that a rule chooses; of arms that differ in nothing the first. `None` without arms.
    pub(super) fn choose(&self, arms: &[Expected], rule: ProbeRule) -> Option<usize> {
        let loss = |index: &usize| arms[*index].loss;
        let best = (0..arms.len()).min_by(|a, b| loss(a).total_cmp(&loss(b)))?;
        match rule {
            ProbeRule::Within { .. } | ProbeRule::Seconds { .. } => Some(best),
            ProbeRule::Cheapest { tolerance } => {
                let as_good = (0..arms.len()).filter(|&arm| self.is_as_good(&arms[arm], &arms[best], tolerance));
                as_good.min_by(|&a, &b| arms[a].share.total_cmp(&arms[b].share))
            }
        }
    }

    /// What is to be thought of a part beside full training.
    pub(super) fn verdict(&self, chosen: &Expected, full: &Expected, rule: ProbeRule) -> ProbeVerdict {
        let tolerance = match rule {
            ProbeRule::Cheapest { tolerance } => tolerance,
            ProbeRule::Within { .. } | ProbeRule::Seconds { .. } => 0.0,
        };
        match self.lack(chosen, full) {
            lack if lack <= 0.0 => ProbeVerdict::AsGood,
            _ if self.is_as_good(chosen, full, tolerance) => ProbeVerdict::Tolerable,
            _ => ProbeVerdict::Worse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(loss: f64, accuracy: Option<f64>, share: f64) -> Expected {
        Expected { steps: 100, learning_rate: 1e-4, loss, accuracy, share, seconds: 1.0 }
    }

    fn chosen(noise: f64, ranks: bool, tolerance: f64, arms: &[Expected]) -> usize {
        Judge { noise, ranks }.choose(arms, ProbeRule::Cheapest { tolerance }).unwrap()
    }

    #[test]
    fn the_cheapest_within_the_tolerance_is_chosen() {
        let arms = [arm(1.00, None, 1.0), arm(1.03, None, 0.6), arm(1.20, None, 0.3)];
        assert_eq!(chosen(0.0, false, 0.05, &arms), 1);
        assert_eq!(chosen(0.0, false, 0.01, &arms), 0);
        assert_eq!(chosen(0.0, false, 0.50, &arms), 2);
    }

    #[test]
    fn what_noise_explains_is_no_reason_to_pay_more() {
        let arms = [arm(1.00, None, 1.0), arm(1.10, None, 0.6), arm(1.50, None, 0.3)];
        assert_eq!(chosen(0.1, false, 0.01, &arms), 1);
    }

    #[test]
    fn accuracies_decide_where_completions_are_ranked() {
        let arms = [arm(0.08, Some(0.970), 1.0), arm(0.12, Some(0.965), 0.6), arm(0.2, Some(0.94), 0.3)];
        assert_eq!(chosen(0.0, true, 0.01, &arms), 1);
        assert_eq!(chosen(0.0, false, 0.01, &arms), 0);
    }

    #[test]
    fn within_a_budget_the_best_is_chosen() {
        let arms = [arm(1.00, None, 0.6), arm(0.97, None, 0.6)];
        assert_eq!(Judge { noise: 0.2, ranks: false }.choose(&arms, ProbeRule::Within { share: 0.6 }), Some(1));
        assert_eq!(Judge { noise: 0.2, ranks: false }.choose(&[], ProbeRule::Within { share: 0.6 }), None);
    }

    #[test]
    fn verdicts_say_how_it_stands_beside_full_training() {
        let (judge, rule) = (Judge { noise: 0.0, ranks: false }, ProbeRule::Cheapest { tolerance: 0.05 });
        let verdict = |loss, rule| judge.verdict(&arm(loss, None, 0.5), &arm(1.0, None, 1.0), rule);
        assert_eq!(verdict(0.99, rule), ProbeVerdict::AsGood);
        assert_eq!(verdict(1.04, rule), ProbeVerdict::Tolerable);
        assert_eq!(verdict(1.04, ProbeRule::Within { share: 0.5 }), ProbeVerdict::Worse);
    }
}
