//! What probes come to: what each arm is expected to give, and which is planned.

use frostline_schemas::plan::{Expected, ProbeRule, ProbeVerdict, ProbedArm, Probes};
use frostline_schemas::units::significant;

use super::choice::Judge;
use super::forecast::{Accuracies, Kind, Measured, Ratio, exponent, fall};
use super::process::{FULL, Probing};
use super::settings::Aim;
use super::training::Probed;
use crate::error::Error;

/// What may be lost where nothing else is asked for: of accuracy, and of loss.
const POINTS: f64 = 0.01;
const PERCENT: f64 = 0.05;

/// More steps than any training takes.
const MOST_STEPS: u64 = 1 << 40;

/// What was found, arm by arm.
pub(super) struct Outcome {
    pub rule: ProbeRule,
    /// The arms that came to an end, by their index, and what they are expected to give.
    expected: Vec<(usize, Expected)>,
    /// Which of these is planned.
    pub chosen: (usize, Expected),
    judge: Judge,
}

impl Outcome {
    pub(super) fn new(probing: &Probing, aim: Aim, factor: f64) -> Result<Outcome, Error> {
        let full_step = full_step(probing);
        let accuracies =
            Accuracies::fit(&points(probing), probing.prober.held_out.len()).filter(|_| probing.commonest.is_some());
        let rule = match aim {
            Aim::Cheapest { tolerance } => ProbeRule::Cheapest {
                tolerance: tolerance.unwrap_or(if accuracies.is_some() { POINTS } else { PERCENT }),
            },
            Aim::Share(share) => ProbeRule::Within { share },
            Aim::Seconds(seconds) => ProbeRule::Seconds { seconds },
        };
        let forecast = Forecast::new(probing).ok_or(Error::Internal("a probe that came to an end"))?;
        let expect = |&(arm, probed): &(usize, &Probed)| {
            let costs = Costs { probing, arm, full_step, cached_step: probed.step_seconds };
            let steps = match rule {
                ProbeRule::Cheapest { .. } => Some(probing.horizon),
                ProbeRule::Within { share } => costs.steps_within(|(cost, _)| cost <= share),
                ProbeRule::Seconds { seconds } => costs.steps_within(|(_, time)| time <= seconds),
            }?;
            let (share, seconds) = costs.of(steps);
            let whole = Measured { steps: probing.horizon, loss: forecast.loss(arm) };
            // No training is expected to end worse than it begins.
            let loss = whole.after(steps, forecast.exponent).min(probing.first_loss);
            let expected = Expected {
                steps,
                learning_rate: probing.rate(arm, factor),
                loss: significant(loss),
                accuracy: accuracies.map(|accuracies| significant(accuracies.at(loss))),
                share: significant(share),
                seconds: significant(seconds),
            };
            Some((arm, expected))
        };
        let expected: Vec<(usize, Expected)> = finished(probing).iter().filter_map(expect).collect();
        let judge = Judge { noise: significant(forecast.noise()), ranks: accuracies.is_some() };
        let results: Vec<Expected> = expected.iter().map(|(_, expected)| *expected).collect();
        let chosen = judge.choose(&results, rule).and_then(|index| expected.get(index).copied());
        Ok(Outcome { rule, chosen: chosen.ok_or(Error::NothingFits)?, expected, judge })
    }

    /// The arms to try for longer, by their index: full training, to compare with, the one that would be planned now, and the
    /// best of the others.
    pub(super) fn finalists(&self) -> Vec<usize> {
        let parts = || self.expected.iter().filter(|(arm, _)| *arm != FULL && *arm != self.chosen.0);
        let best = parts().min_by(|(_, a), (_, b)| a.loss.total_cmp(&b.loss)).map(|(arm, _)| *arm);
        let mut finalists = vec![FULL, self.chosen.0];
        finalists.dedup();
        finalists.extend(best);
        finalists
    }

    /// What the plan holds of it.
    pub(super) fn probes(&self, probing: &Probing, seconds: f64) -> Probes {
        let arm = |&(index, expected): &(usize, Expected)| {
            let arm = &probing.arms[index];
            ProbedArm {
                name: arm.candidate.name.clone(),
                frost_line: arm.frost_line,
                step_share: arm.cost.share,
                trainings: probing.tried[index].iter().map(|probed| probed.training).collect(),
                expected,
            }
        };
        let (chosen, of_chosen) = self.chosen;
        let full = self.expected.iter().find(|(arm, _)| *arm == FULL).map(|(_, expected)| expected);
        let verdict = match full {
            Some(full) if chosen != FULL => self.judge.verdict(&of_chosen, full, self.rule),
            Some(_) => ProbeVerdict::All,
            // Full training diverged.
            None => ProbeVerdict::AsGood,
        };
        let steps = probing.tried.iter().flatten().map(|probed| probed.training.steps).max().unwrap_or(0);
        let rows = (steps as usize).saturating_mul(probing.prober.settings.training.batch_size);
        Probes {
            rows: rows.min(probing.prober.rows.len()),
            held_out: probing.prober.held_out.len(),
            share: significant(probing.ledger.spent / probing.horizon as f64),
            seconds: significant(seconds),
            noise: self.judge.noise,
            arms: self.expected.iter().map(arm).collect(),
            chosen: probing.arms[chosen].candidate.name.clone(),
            verdict,
        }
    }
}

/// Seconds of a step of full training; before it is tried, as the cheapest arm's steps suggest.
fn full_step(probing: &Probing) -> f64 {
    let of_part = || {
        let (arm, probed) = finished(probing).pop()?;
        let cost = &probing.arms[arm].cost;
        let cached = probing.prober.settings.cache.is_some();
        Some(probed.step_seconds / if cached { cost.cached_share } else { cost.share })
    };
    probing.best(FULL).map(|probed| probed.step_seconds).or_else(of_part).unwrap_or(f64::NAN)
}

/// What an arm's steps cost.
struct Costs<'a, 'b> {
    probing: &'a Probing<'b>,
    arm: usize,
    /// Seconds of a step of full training.
    full_step: f64,
    /// Seconds of a step of this arm, as it was probed.
    cached_step: f64,
}

impl Costs<'_, '_> {
    /// What so many steps cost, as a share of full training and in seconds: from a cache, its filling included, where the
    /// steps come back to their rows and that is cheaper.
    fn of(&self, steps: u64) -> (f64, f64) {
        let (arm, probing, steps) = (&self.probing.arms[self.arm], self.probing, steps as f64);
        let settings = &probing.prober.settings;
        let prefix_seconds = arm.prefix_share() * self.full_step;
        let all_passes = probing.all_rows as f64 / settings.training.batch_size.max(1) as f64;
        let (passes, cached_seconds) = match settings.cache {
            Some(_) => (steps.min(all_passes), self.cached_step),
            None => (steps, (self.cached_step - prefix_seconds).max(0.0)),
        };
        let share = arm.prefix_share() * passes + arm.cost.cached_share * steps;
        (share / probing.horizon as f64, prefix_seconds * passes + cached_seconds * steps)
    }

    /// The most steps whose share of full training and seconds fit; `None` where not one does.
    fn steps_within(&self, fit: impl Fn((f64, f64)) -> bool) -> Option<u64> {
        if !fit(self.of(1)) {
            return None;
        }
        let (mut fits, mut too_many) = (1, 2);
        while too_many < MOST_STEPS && fit(self.of(too_many)) {
            (fits, too_many) = (too_many, too_many * 2);
        }
        while too_many - fits > 1 {
            let middle = fits + (too_many - fits) / 2;
            if fit(self.of(middle)) { fits = middle } else { too_many = middle }
        }
        Some(fits)
    }
}

/// What a whole training by each arm gives.
struct Forecast {
    exponent: f64,
    /// Of full training; before it is tried, as the other arms suggest.
    full: f64,
    /// Of each arm that came to an end, by its index, against full training.
    ratios: Vec<(usize, Ratio)>,
}

impl Forecast {
    /// `None` where no arm came to an end.
    fn new(probing: &Probing) -> Option<Forecast> {
        let pairs = pairs(probing);
        let exponent = exponent(&pairs, kind(probing));
        let finished = finished(probing);
        let longest = finished.iter().map(|(_, probed)| probed.training.steps).max().unwrap_or(0);
        // An arm that was not tried for long is taken to fall on as those did that were.
        let falls: f64 = pairs.iter().map(|(short, long)| (long.loss / short.loss).ln()).sum();
        let to_longest = (falls / pairs.len().max(1) as f64).exp();
        let whole = |probed: &Probed| {
            let Some(own) = measured(probed) else { return f64::NAN };
            let loss = if own.steps < longest { own.loss * to_longest } else { own.loss };
            Measured { steps: longest, loss }.after(probing.horizon, exponent)
        };
        let first = probing.first_loss;
        let tried = finished.iter().find(|(arm, _)| *arm == FULL).map(|(_, probed)| *probed);
        let full = match tried {
            Some(probed) => whole(probed),
            None => {
                let least = finished.iter().map(|(_, probed)| whole(probed)).fold(f64::INFINITY, f64::min);
                let expected = |&(arm, probed): &(usize, &Probed)| {
                    whole(probed).ln() - Ratio::beforehand(trained(probing, arm), fall(first, least)).log
                };
                (finished.iter().map(expected).sum::<f64>() / finished.len().max(1) as f64).exp()
            }
        };
        let ratio = |&(arm, probed): &(usize, &Probed)| {
            let chance = |probed: &Probed| measured(probed).map_or(0.0, |own| own.variance(first));
            let of_rows = tried.map_or(0.0, |full| variance_of_ratio(&full.losses, &probed.losses));
            let variance = chance(probed) + tried.map_or(0.0, chance) + of_rows;
            let seen = Ratio { log: (whole(probed) / full).ln(), variance };
            let known = Ratio::beforehand(trained(probing, arm), fall(first, full));
            (arm, if arm == FULL { Ratio { log: 0.0, variance: 0.0 } } else { seen.with_known(known) })
        };
        let ratios: Vec<(usize, Ratio)> = finished.iter().map(ratio).collect();
        (!ratios.is_empty()).then_some(Forecast { exponent, full, ratios })
    }

    /// The loss of a whole training by an arm.
    fn loss(&self, arm: usize) -> f64 {
        let ratio = self.ratios.iter().find(|(index, _)| *index == arm).map_or(0.0, |(_, ratio)| ratio.log);
        self.full * ratio.exp()
    }

    /// The standard deviation of the logarithm of an arm's loss over that of full training, as an arm has it on average.
    fn noise(&self) -> f64 {
        let variances: Vec<f64> =
            self.ratios.iter().filter(|(arm, _)| *arm != FULL).map(|(_, ratio)| ratio.variance).collect();
        (variances.iter().sum::<f64>() / variances.len().max(1) as f64).sqrt()
    }
}

/// Arms with the longest of their trainings that came to an end.
fn finished<'a>(probing: &'a Probing) -> Vec<(usize, &'a Probed)> {
    (0..probing.arms.len()).filter_map(|arm| Some((arm, probing.best(arm)?))).collect()
}

/// The share of full training's weights that an arm trains.
fn trained(probing: &Probing, arm: usize) -> f64 {
    let parameters = |arm: usize| probing.arms[arm].cost.trained_parameters as f64;
    parameters(arm) / parameters(FULL).max(1.0)
}

fn measured(probed: &Probed) -> Option<Measured> {
    Some(Measured { steps: probed.training.steps, loss: probed.training.loss? })
}

/// What is known beforehand of how fast losses fall. Where completions are ranked and no arm does better than one would who
/// always says the commonest, by more than chance, nothing is learned that would go on.
fn kind(probing: &Probing) -> Kind {
    let Some(commonest) = probing.commonest else { return Kind::Text };
    let rows = probing.prober.held_out.len().max(1) as f64;
    let chance = 2.0 * (commonest * (1.0 - commonest) / rows).sqrt();
    match points(probing).iter().map(|(_, accuracy)| *accuracy).reduce(f64::max) {
        Some(best) if best <= commonest + chance => Kind::Unlearned,
        _ => Kind::Labels,
    }
}

/// Of each arm that was trained for two lengths, the best of either.
fn pairs(probing: &Probing) -> Vec<(Measured, Measured)> {
    let pair = |arm: usize| {
        let long = measured(probing.best(arm)?)?;
        let shorter = probing.tried[arm].iter().filter_map(measured).filter(|probe| probe.steps < long.steps);
        Some((shorter.min_by(|a, b| a.loss.total_cmp(&b.loss))?, long))
    };
    (0..probing.arms.len()).filter_map(pair).collect()
}

/// Losses and the accuracies that went with them.
fn points(probing: &Probing) -> Vec<(f64, f64)> {
    let trainings = probing.tried.iter().flatten().map(|probed| probed.training);
    trainings.filter_map(|training| training.loss.zip(training.accuracy)).collect()
}

/// The variance of the logarithm of the ratio of two means over the same rows, to first order.
fn variance_of_ratio(a: &[f64], b: &[f64]) -> f64 {
    let count = a.len().min(b.len()).max(1) as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / count, b.iter().sum::<f64>() / count);
    let differences = a.iter().zip(b).map(|(a, b)| (a / mean_a - b / mean_b).powi(2));
    differences.sum::<f64>() / count / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_both_arms_find_hard_are_no_noise() {
        let a = [0.1, 0.2, 3.0, 0.1];
        assert!(variance_of_ratio(&a, &a.map(|loss| 2.0 * loss)) < 1e-20);
        assert!(variance_of_ratio(&a, &[3.0, 0.1, 0.2, 0.1]) > 0.1);
    }
}
