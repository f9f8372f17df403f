//! How long probes may be. Costs are in steps of full training.

use std::ops::RangeInclusive;

use super::arms::Arm;
use crate::error::Error;

/// Rates that the first arm is tried with, as is expected; it may be more or fewer.
const RATES: f64 = 4.0;
/// Arms that are trained for longer: full training and the most promising other.
const FINALISTS: f64 = 2.0;
/// What the first probes take of the budget; the longer ones take the rest.
const FIRST: f64 = 0.35;
/// What goes into losses on rows held back.
const EVALUATION: f64 = 0.2;
/// A forward pass is a third of a step.
const FORWARD: f64 = 1.0 / 3.0;
/// With fewer steps a training has seen too little.
const LEAST_STEPS: u64 = 4;
const HELD_OUT: RangeInclusive<usize> = 32..=256;

/// What probes may cost, and what they have cost.
pub(super) struct Ledger {
    pub allowed: f64,
    pub spent: f64,
    /// Rows held back, in batches.
    held_out: f64,
    /// What ranking a batch of them costs; 0 where nothing is ranked.
    ranking: f64,
    /// Whether states at frost lines are kept.
    caches: bool,
}

/// How long probes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lengths {
    /// Steps of the first probes.
    pub steps: u64,
    /// Rows held back.
    pub held_out: usize,
}

/// The longest first probes of these arms, the dearest of which is full training, with what is left of a budget.
///
/// # Errors
/// [`Error::ProbeBudget`] where it allows for too few steps.
pub(super) fn lengths(
    (allowed, spent): (f64, f64),
    horizon: u64,
    batch_size: usize,
    arms: &[Arm],
    first: usize,
    ranking: f64,
) -> Result<Lengths, Error> {
    let parts = arms.get(1..).unwrap_or_default();
    let sum = |of: &dyn Fn(&Arm) -> f64| parts.iter().map(of).sum::<f64>();
    let (cached, prefix) = (sum(&|arm| arm.cost.cached_share), sum(&Arm::prefix_share));
    let further_rates = (RATES - 1.0) * arms.get(first).map_or(0.0, |arm| arm.cost.cached_share);
    let dearest = parts.first().map_or(0.0, |arm| arm.cost.cached_share);
    // Of each batch of rows held back, and of each step of the first probes.
    let evaluating = prefix + FORWARD * (cached + further_rates + 1.0 + dearest) + ranking * FINALISTS;
    let training = cached + prefix + further_rates;
    let batches = |rows: usize| rows as f64 / batch_size as f64;
    let left = allowed - spent;
    let least_training = LEAST_STEPS as f64 * training / FIRST;
    let for_losses = (EVALUATION * left).min(left - least_training);
    let held_out = (for_losses / evaluating * batch_size as f64).max(0.0) as usize;
    let held_out = held_out.clamp(*HELD_OUT.start(), *HELD_OUT.end());
    let steps = (FIRST * (left - evaluating * batches(held_out)) / training).max(0.0) as u64;
    let steps = steps.min((horizon / 8).max(LEAST_STEPS));
    if steps < LEAST_STEPS {
        let least = least_training + evaluating * batches(*HELD_OUT.start());
        let needed = (100.0 * (least + spent) / horizon as f64).ceil() / 100.0;
        return Err(Error::ProbeBudget { needed, horizon });
    }
    Ok(Lengths { steps, held_out })
}

impl Ledger {
    pub(super) fn new(
        (allowed, spent): (f64, f64),
        held_out: usize,
        batch_size: usize,
        ranking: f64,
        caches: bool,
    ) -> Ledger {
        Ledger { allowed, spent, held_out: held_out as f64 / batch_size.max(1) as f64, ranking, caches }
    }

    /// Books a probe of so many steps, of which the states of `new_steps` were not kept yet.
    pub(super) fn book(&mut self, arm: &Arm, steps: u64, new_steps: u64, ranks: bool) {
        let (computed, is_first) = if self.caches { (new_steps, new_steps == steps) } else { (steps, true) };
        let prefix = if is_first { arm.prefix_share() } else { 0.0 };
        self.spent += arm.cost.cached_share * steps as f64 + arm.prefix_share() * computed as f64;
        self.spent += (prefix + self.evaluation(arm, ranks)) * self.held_out;
    }

    /// Steps that each of some arms can take with what is left, where states of `known` steps are kept of all but full
    /// training.
    pub(super) fn left_for(&self, arms: &[&Arm], known: u64) -> u64 {
        let sum = |of: &dyn Fn(&Arm) -> f64| arms.iter().map(|arm| of(arm)).sum::<f64>();
        let prefix = sum(&|arm| arm.prefix_share());
        let (kept, computed) = if self.caches { (prefix * known as f64, 0.0) } else { (0.0, prefix) };
        let evaluating = sum(&|arm| self.evaluation(arm, true)) + computed;
        let left = self.allowed - self.spent - evaluating * self.held_out;
        ((left + kept) / sum(&|arm| arm.cost.share).max(f64::MIN_POSITIVE)).max(0.0) as u64
    }

    /// Of each batch of rows held back whose states are kept.
    fn evaluation(&self, arm: &Arm, ranks: bool) -> f64 {
        FORWARD * arm.cost.cached_share + if ranks { self.ranking } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::arms::arms;
    use frostline_schemas::model::{DecoderConfig, read_config};
    use frostline_schemas::select::StepShape;

    fn llama() -> DecoderConfig {
        read_config(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/llama")).unwrap()
    }

    fn all() -> Vec<Arm> {
        arms(&llama(), StepShape { rows: 16, tokens_per_row: 20.0, targets_per_row: 1.0 }, Vec::new())
    }

    #[test]
    fn longer_trainings_and_larger_budgets_allow_for_longer_probes() {
        let arms = all();
        let steps = |allowed, horizon| lengths((allowed, 0.0), horizon, 16, &arms, 2, 0.4).unwrap().steps;
        assert!(steps(300.0, 1000) > steps(150.0, 1000));
        assert_eq!(steps(300.0, 100), 12);
        let said = lengths((5.0, 0.0), 100, 16, &arms, 2, 0.4).unwrap_err().to_string();
        assert!(said.contains("probes of the fewest steps cost 0.") && said.contains("of 100 steps"), "{said}");
    }

    /// What is said to be needed is enough.
    #[test]
    fn the_least_budget_is_enough() {
        let arms = all();
        let Err(Error::ProbeBudget { needed, horizon }) = lengths((1.0, 0.0), 400, 16, &arms, 2, 0.4) else { panic!() };
        let found = lengths((needed * horizon as f64, 0.0), 400, 16, &arms, 2, 0.4).unwrap();
        assert!(found.steps == 4 && found.held_out >= 32, "{found:?}");
    }

    /// Without a cache the layers below the frost line are computed each time.
    #[test]
    fn without_a_cache_probes_cost_more() {
        let arms = all();
        let spent = |caches| {
            let mut ledger = Ledger::new((100.0, 0.0), 64, 16, 0.4, caches);
            ledger.book(&arms[2], 6, 6, false);
            ledger.book(&arms[2], 6, 0, false);
            ledger.spent
        };
        let prefix = arms[2].prefix_share();
        assert!((spent(false) - spent(true) - prefix * (6.0 + 4.0)).abs() < 1e-9);
    }

    #[test]
    fn probes_as_long_as_is_left_keep_the_budget() {
        let arms = all();
        let mut ledger = Ledger::new((100.0, 0.0), 64, 16, 0.4, true);
        for arm in &arms[1..] {
            ledger.book(arm, 6, 6, false);
        }
        let finalists = [&arms[0], &arms[2]];
        let steps = ledger.left_for(&finalists, 6);
        ledger.book(finalists[0], steps, steps, true);
        ledger.book(finalists[1], steps, steps - 6, true);
        assert!(ledger.spent <= 100.0 && ledger.spent > 97.0, "{} {steps}", ledger.spent);
    }
}
