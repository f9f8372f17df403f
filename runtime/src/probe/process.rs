//! Probes one after the other: rates, all arms, finalists.

use std::collections::BTreeMap;

use frostline_schemas::data::{self, Example};
use frostline_schemas::plan::{LearningRate, PlanTask, ProbeTraining, RateOrigin};
use frostline_schemas::run::Order;
use frostline_schemas::select::StepShape;

use super::arms::{Arm, Candidate, arms};
use super::budget::{Ledger, Lengths, lengths};
use super::forecast::Measured;
use super::settings::{ProbeSettings, Watch};
use super::training::{Probed, Prober};
use crate::compare::Split;
use crate::compare::sweep::{self, Rates};
use crate::data::Sampler;
use crate::error::Error;
use crate::evaluate::ranking_share;

/// The index of full training, which is the dearest.
pub(super) const FULL: usize = 0;

/// Probes as they go on.
pub(super) struct Probing<'a> {
    pub prober: Prober,
    pub arms: Vec<Arm>,
    /// What was tried of each arm.
    pub tried: Vec<Vec<Probed>>,
    pub ledger: Ledger,
    pub step: StepShape,
    /// Rows of the task.
    pub all_rows: usize,
    /// The share of the commonest completion, where they are labels that are ranked.
    pub commonest: Option<f64>,
    /// Mean loss before any training.
    pub first_loss: f64,
    /// Steps that are planned for.
    pub horizon: u64,
    lengths: Lengths,
    /// The arm whose rates are tried.
    first: usize,
    watch: &'a mut dyn Watch,
}

impl<'a> Probing<'a> {
    /// Holds rows back, and works out how long probes may be where so many steps of full training are spent already.
    pub(super) fn new(
        task: &PlanTask,
        proposed: Vec<Candidate>,
        spent: f64,
        settings: &ProbeSettings,
        watch: &'a mut dyn Watch,
    ) -> Result<Probing<'a>, Error> {
        let (config, step, rows) = (&task.folder.config, task.step(), task.examples.clone());
        let arms = arms(config, step, proposed);
        // Several rates of one arm cost least where its steps are cheap.
        let first = arms.len().checked_sub(1).filter(|&first| first != FULL).ok_or(Error::NothingToProbe)?;
        let (all_rows, batch_size) = (rows.len(), settings.training.training.batch_size);
        let ranking = ranking_share(&rows);
        let commonest = data::labels(&rows).filter(|_| ranking.is_some()).map(|labels| share_of_commonest(&labels));
        let ranking = ranking.filter(|_| commonest.is_some()).unwrap_or(0.0);
        let horizon = settings.steps(all_rows);
        let allowed = settings.share * horizon as f64;
        let lengths = lengths((allowed, spent), horizon, batch_size, &arms, first, ranking)?;
        let seed = settings.training.training.seed;
        // At most half: of few rows most are for training.
        let share = (lengths.held_out as f64 / all_rows.max(1) as f64).min(0.5);
        let Split { trained, held_out } = Split::new(rows, share, seed)?;
        Ok(Probing {
            ledger: Ledger::new(
                (allowed, spent),
                held_out.len(),
                batch_size,
                ranking,
                settings.training.cache.is_some(),
            ),
            prober: Prober {
                folder: task.folder.path.clone(),
                config: config.clone(),
                identity: task.model.clone(),
                rows: shuffled(trained, seed),
                held_out,
                settings: settings.training.clone(),
            },
            tried: arms.iter().map(|_| Vec::new()).collect(),
            arms,
            step,
            all_rows,
            commonest,
            first_loss: f64::NAN,
            horizon,
            lengths,
            first,
            watch,
        })
    }

    /// Tries one arm at several rates. Returns by how much the best differs from the expected one: of rates that chance may
    /// have put in their order, the one nearest to that.
    pub(super) fn find_rates(&mut self) -> Result<f64, Error> {
        let steps = self.lengths.steps;
        let start = sweep::start(self.short_rate(self.first, 1.0));
        let expected = sweep::rate(start);
        let mut smallest = expected;
        Rates::Auto.sweep(start, &mut |rate| {
            smallest = smallest.min(rate);
            let loss = self.probe(self.first, rate, steps, false)?;
            Ok::<f64, Error>(loss.unwrap_or(f64::INFINITY))
        })?;
        let loss = |training: &ProbeTraining| training.loss.map(|loss| (training.learning_rate, loss));
        let tried: Vec<(f64, f64)> =
            self.tried[self.first].iter().filter_map(|probed| loss(&probed.training)).collect();
        let least = tried.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
        let chance = Measured { steps, loss: least }.variance(self.first_loss);
        let alike = tried.iter().filter(|(_, loss)| (loss / least).ln() <= (2.0 * chance).sqrt());
        let distance = |rate: f64| (rate / expected).ln().abs();
        let nearest = alike.min_by(|(a, _), (b, _)| distance(*a).total_cmp(&distance(*b)));
        let (rate, _) = nearest.ok_or(Error::Probes { rate: smallest })?;
        Ok(rate / expected)
    }

    /// Tries all other parts, each at the rate that follows for it.
    pub(super) fn try_parts(&mut self, factor: f64) -> Result<(), Error> {
        let (steps, first) = (self.lengths.steps, self.first);
        for arm in (0..self.arms.len()).filter(|&arm| arm != first && arm != FULL) {
            self.probe(arm, self.short_rate(arm, factor), steps, false)?;
        }
        Ok(())
    }

    /// Tries the first of some arms for as long as what is left allows: of more than two only where they get enough steps.
    pub(super) fn try_longer(&mut self, finalists: &[usize], factor: f64) -> Result<(), Error> {
        const ENOUGH: u64 = 48;
        let left_for = |finalists: &[usize]| {
            let arms: Vec<&Arm> = finalists.iter().filter_map(|&arm| self.arms.get(arm)).collect();
            self.ledger.left_for(&arms, self.lengths.steps).min(self.horizon / 2)
        };
        let finalists = match finalists.get(..2) {
            Some(two) if left_for(finalists) < ENOUGH.min(self.horizon / 2) => two,
            _ => finalists,
        };
        let steps = left_for(finalists).max(self.lengths.steps);
        for &arm in finalists {
            self.probe(arm, self.short_rate(arm, factor), steps, self.commonest.is_some())?;
        }
        Ok(())
    }

    /// The rate of a whole training by an arm: what is expected for it, and so much more as the rates tried have shown.
    pub(super) fn rate(&self, arm: usize, factor: f64) -> f64 {
        LearningRate::measured(self.expected(arm) * factor, RateOrigin::Probe).full
    }

    /// That of a short training. Short ones were seen to want rates that are more alike than whole ones do: it is the
    /// mean, in logarithms, of the arm's own and of that whose rates were tried.
    fn short_rate(&self, arm: usize, factor: f64) -> f64 {
        let mean = (self.expected(arm) * self.expected(self.first)).sqrt();
        LearningRate::measured(mean * factor, RateOrigin::Probe).full
    }

    fn expected(&self, arm: usize) -> f64 {
        self.arms[arm].candidate.learning_rate.full
    }

    /// The longest training of an arm that came to an end; of equally long ones that of the least loss.
    pub(super) fn best(&self, arm: usize) -> Option<&Probed> {
        let finished = self.tried[arm].iter().filter(|probed| probed.training.loss.is_some());
        finished.min_by(|a, b| a.training.order(&b.training))
    }

    /// Returns the loss on the rows held back.
    fn probe(&mut self, arm: usize, rate: f64, steps: u64, ranks: bool) -> Result<Option<f64>, Error> {
        let probed = {
            let arm = &self.arms[arm];
            let mut hook = self.watch.probing(&arm.candidate.name, rate, steps);
            self.prober.probe(arm, rate, steps, ranks, &mut *hook)?
        };
        let known = self.tried[arm].iter().map(|probed| probed.training.steps).max().unwrap_or(0);
        self.ledger.book(&self.arms[arm], steps, steps.saturating_sub(known), ranks);
        if self.first_loss.is_nan() {
            self.first_loss = probed.first_loss;
        }
        let loss = probed.training.loss;
        self.tried[arm].push(probed);
        Ok(loss)
    }
}

fn share_of_commonest(labels: &[Option<usize>]) -> f64 {
    let mut counts = BTreeMap::<usize, usize>::new();
    labels.iter().flatten().for_each(|label| *counts.entry(*label).or_default() += 1);
    counts.values().max().copied().unwrap_or(0) as f64 / labels.len().max(1) as f64
}

/// Rows in an order drawn by a seed.
fn shuffled(rows: Vec<Example>, seed: u64) -> Vec<Example> {
    let lengths = rows.iter().map(|row| row.tokens.len()).collect();
    let order = Sampler::new(lengths, Order::Shuffle, seed, 1).take(rows.len());
    order.into_iter().filter_map(|row| rows.get(row).cloned()).collect()
}
