//! One training of a comparison, with its clock and its curve.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use frostline_schemas::data::Example;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::evaluate::{Evaluation, mean_loss};
use crate::train::{Caching, Hook, Start, Step};

/// Points of a curve, at about equal distances: so often the loss on rows held back is measured, the last time at the end.
const POINTS: u64 = 6;
/// The share of the loss on rows held back by which the end must be worse than the best point to be called so.
const OVERFITTING: f64 = 0.02;

/// A point of a training's curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Steps taken.
    pub step: u64,
    /// Seconds taken, the filling of the cache among them.
    pub seconds: f64,
    /// Mean loss of the steps since the point before.
    #[serde(with = "number_or_null")]
    pub loss: f64,
    /// Mean loss on the rows held back.
    #[serde(with = "number_or_null")]
    pub held_out_loss: f64,
}

/// A training of an arm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedArm {
    /// The largest learning rate.
    pub learning_rate: f64,
    /// The seed.
    pub seed: u64,
    /// Steps taken.
    pub steps: u64,
    /// Seconds of steps and of the cache's filling, also where an earlier training of the comparison had filled it.
    pub seconds: f64,
    /// Of them, what filling the cache takes.
    pub filling_seconds: f64,
    /// Loss on the rows held back at the end; `None` where the training diverged.
    pub held_out_loss: Option<f64>,
    /// How the losses went.
    pub curve: Vec<Point>,
    /// On the rows to evaluate on; only where it was the best of its arm when it ended, and for further seeds.
    pub evaluation: Option<Evaluation>,
    /// The largest resident memory while it ran, in bytes; where the system tells.
    pub peak_bytes: Option<u64>,
}

impl TrainedArm {
    /// The point of its curve with the least loss on the rows held back.
    pub fn best_point(&self) -> Option<&Point> {
        let finite = self.curve.iter().filter(|point| point.held_out_loss.is_finite());
        finite.min_by(|a, b| a.held_out_loss.total_cmp(&b.held_out_loss))
    }

    /// The best point, where it is better than the end by more than 2 %.
    pub fn overfitted_from(&self) -> Option<&Point> {
        let best = self.best_point()?;
        (best.held_out_loss < (1.0 - OVERFITTING) * self.held_out_loss?).then_some(best)
    }
}

/// A number that JSON may have no word for: one that is not finite is written as null, and read as no number.
mod number_or_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
    pub(super) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        number.is_finite().then_some(*number).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

/// Looks at a training: keeps its clock and its curve. Where seconds are its limit, they decide on its rate and its end.
pub(super) struct Watch<'a> {
    held_out: &'a [Example],
    batch_size: usize,
    limit: Option<f64>,
    /// Rows whose states the cache holds, if it is used.
    cached_rows: usize,
    /// When the filling began, and of how many rows.
    filling: Option<(Instant, usize)>,
    begun: Instant,
    /// What evaluations on the way have taken.
    paused: Duration,
    /// Steps between points of the curve, where steps are the limit.
    every: u64,
    recent: Vec<f64>,
    pub filling_seconds: f64,
    pub steps: u64,
    pub seconds: f64,
    pub curve: Vec<Point>,
}

impl<'a> Watch<'a> {
    /// `filling_seconds` is what filling the cache takes, for where it is filled already.
    pub(super) fn new(
        held_out: &'a [Example],
        batch_size: usize,
        limit: Option<f64>,
        cached_rows: usize,
        filling_seconds: f64,
    ) -> Watch<'a> {
        Watch {
            held_out,
            batch_size,
            limit,
            cached_rows,
            filling: None,
            begun: Instant::now(),
            paused: Duration::ZERO,
            every: u64::MAX,
            recent: Vec::new(),
            filling_seconds,
            steps: 0,
            seconds: 0.0,
            curve: Vec::new(),
        }
    }

    /// Seconds taken, without evaluations on the way.
    fn elapsed(&self) -> f64 {
        self.filling_seconds + self.begun.elapsed().saturating_sub(self.paused).as_secs_f64()
    }

    /// Whether the curve has a point here: a share of the steps or of the seconds has passed since the last.
    fn is_point(&self, seconds_before: f64) -> bool {
        match self.limit {
            None => self.steps.is_multiple_of(self.every),
            Some(limit) => {
                let part = |seconds: f64| (seconds / limit * POINTS as f64).floor();
                self.seconds < limit && part(self.seconds) > part(seconds_before)
            }
        }
    }

    /// Adds a point to the curve.
    pub(super) fn point(&mut self, held_out_loss: f64) {
        let loss = self.recent.iter().sum::<f64>() / self.recent.len().max(1) as f64;
        self.recent.clear();
        self.curve.push(Point { step: self.steps, seconds: self.seconds, loss, held_out_loss });
    }
}

impl Hook for Watch<'_> {
    fn caching(&mut self, progress: Caching) -> Result<(), Error> {
        self.filling.get_or_insert_with(|| (Instant::now(), progress.all));
        Ok(())
    }

    fn started(&mut self, start: &Start) -> Result<(), Error> {
        // Where some of the states were there already, the others tell what all of them take.
        if let Some((begun, rows)) = self.filling.filter(|(_, rows)| *rows > 0) {
            self.filling_seconds = begun.elapsed().as_secs_f64() * self.cached_rows.max(rows) as f64 / rows as f64;
        }
        self.every = start.steps.div_ceil(POINTS);
        self.begun = Instant::now();
        Ok(())
    }

    /// Of the seconds that filling the cache leaves: the rate begins at its largest, and the training ends when all are up.
    fn passed(&mut self) -> Option<f64> {
        let left = |limit: f64| (limit - self.filling_seconds).max(f64::MIN_POSITIVE);
        self.limit.map(|limit| (self.elapsed() - self.filling_seconds) / left(limit))
    }

    fn step(&mut self, step: &Step) -> Result<ControlFlow<()>, Error> {
        let seconds_before = self.seconds.max(self.filling_seconds);
        self.steps = step.metrics.step;
        self.recent.push(step.metrics.loss);
        self.seconds = self.elapsed();
        if self.is_point(seconds_before) {
            let begun = Instant::now();
            let loss = mean_loss(step.model, self.held_out, self.batch_size)?;
            self.point(loss);
            self.paused += begun.elapsed();
        }
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CacheSettings, CacheUse};
    use crate::model::Scope;
    use crate::train::{TrainSettings, train};
    use frostline_schemas::cache::{DEFAULT_LIMIT, Store};
    use frostline_schemas::data::Target;
    use frostline_schemas::model::ModelFolder;
    use frostline_schemas::run::TrainingSettings;

    fn rows(tokens: std::ops::Range<u32>) -> Vec<Example> {
        let row = |token| Example::new(1, vec![token, 3, 4], vec![Target { position: 1, token: 5 }]);
        tokens.map(row).collect()
    }

    /// Trains twelve steps of the upper half of a tiny model, from a cache where one is given.
    fn train_with(watch: &mut Watch, cache: Option<CacheSettings>) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/llama");
        let model = ModelFolder::open(&folder).unwrap();
        let (identity, scope) = (model.identity().unwrap(), Scope::above(&model.config, 2).unwrap());
        let training = TrainingSettings { batch_size: 2, learning_rate: 1e-3, ..TrainingSettings::of_steps(12) };
        let settings = TrainSettings { cache, ..TrainSettings::new(training) };
        train(model, &identity, scope, &rows(6..12), &settings, watch).unwrap();
    }

    #[test]
    fn a_curve_has_its_points_and_the_last_is_the_end() {
        let held_out = rows(20..23);
        let mut watch = Watch::new(&held_out, 2, None, 6, 0.0);
        train_with(&mut watch, None);
        assert_eq!(watch.curve.iter().map(|point| point.step).collect::<Vec<_>>(), [2, 4, 6, 8, 10, 12]);
        assert_eq!((watch.steps, watch.filling_seconds), (12, 0.0));
        assert!(watch.curve.is_sorted_by(|a, b| a.seconds <= b.seconds) && watch.curve[5].seconds == watch.seconds);
        assert!(watch.curve[5].held_out_loss < watch.curve[0].held_out_loss);
    }

    #[test]
    fn a_training_ends_when_its_seconds_are_up() {
        let held_out = rows(20..23);
        let mut watch = Watch::new(&held_out, 2, Some(1e-9), 6, 0.0);
        train_with(&mut watch, None);
        assert_eq!((watch.steps, watch.curve.len()), (1, 0));
        // However many steps were expected: they end when the seconds do.
        let mut watch = Watch::new(&held_out, 2, Some(0.6), 6, 0.0);
        train_with(&mut watch, None);
        assert!(watch.steps > 12 && watch.seconds >= 0.6, "{} steps, {} s", watch.steps, watch.seconds);
        assert!((1..6).contains(&watch.curve.len()), "{:?}", watch.curve);
        // What filling the cache takes counts where it is filled already.
        let mut watch = Watch::new(&held_out, 2, Some(100.0), 6, 100.0);
        train_with(&mut watch, None);
        assert_eq!(watch.steps, 1);
        assert!(watch.seconds > 100.0);
    }

    #[test]
    fn what_filling_leaves_of_the_seconds_is_the_rates() {
        let held_out = rows(20..23);
        let mut watch = Watch::new(&held_out, 2, Some(1000.0), 6, 990.0);
        assert!((0.0..0.5).contains(&watch.passed().unwrap()));
        watch.begun -= Duration::from_secs(10);
        assert!((1.0..1.5).contains(&watch.passed().unwrap()));
        assert_eq!(Watch::new(&held_out, 2, None, 6, 990.0).passed(), None);
    }

    #[test]
    fn the_best_point_is_that_of_the_least_loss() {
        let run = |losses: &[f64]| {
            let point = |(k, &held_out_loss): (usize, &f64)| Point {
                step: k as u64 + 1,
                seconds: 1.0,
                loss: 1.0,
                held_out_loss,
            };
            let curve = losses.iter().enumerate().map(point).collect();
            TrainedArm { curve, held_out_loss: losses.last().copied(), ..TrainedArm::default() }
        };
        let steps = |losses: &[f64]| {
            let run = run(losses);
            [run.best_point(), run.overfitted_from()].map(|point| point.map(|point| point.step))
        };
        assert_eq!(steps(&[0.5, f64::NAN, 0.2, 0.3]), [Some(3), Some(3)]);
        // By less than one fiftieth.
        assert_eq!(steps(&[0.5, 0.197, 0.2]), [Some(2), None]);
        assert_eq!(steps(&[0.5, 0.2]), [Some(2), None]);
        assert_eq!(steps(&[]), [None, None]);
    }

    #[test]
    fn filling_the_cache_is_measured() {
        let (held_out, folder) = (rows(20..23), tempfile::tempdir().unwrap());
        let store = Store::new(folder.path().to_owned(), DEFAULT_LIMIT);
        let cache = CacheSettings { store, using: CacheUse::WhereItPays };
        let mut watch = Watch::new(&held_out, 2, None, 6, 0.0);
        train_with(&mut watch, Some(cache.clone()));
        assert!(watch.filling_seconds > 0.0 && watch.seconds > watch.filling_seconds);
        let mut second = Watch::new(&held_out, 2, None, 6, watch.filling_seconds);
        train_with(&mut second, Some(cache));
        assert_eq!(second.filling_seconds, watch.filling_seconds);
        assert_eq!(second.curve[5].held_out_loss, watch.curve[5].held_out_loss);
    }
}
