//! Trains arms on the same rows, each at its own best rate.

use std::collections::BTreeMap;
use std::path::PathBuf;

use frostline_schemas::data::{self, Example};
use frostline_schemas::model::{DecoderConfig, ModelFolder, ModelIdentity};
use frostline_schemas::run::TrainingSettings;

use crate::cache::{CacheSettings, CacheUse};
use crate::compare::arm::{Arm, ArmResult};
use crate::compare::budget::{Budget, Pace, Spending};
use crate::compare::results::{ArmIdentity, ComparedRows, FORMAT, ResultsOrigin};
use crate::compare::run::{TrainedArm, Watch};
use crate::compare::split::Split;
use crate::compare::sweep::{self, Rates};
use crate::error::Error;
use crate::evaluate::{Evaluation, evaluate, mean_loss};
use crate::model::{ComputePrecision, Model, Scope};
use crate::run::JobFiles;
use crate::system::{Device, on_threads, peak_bytes, reset_peak};
use crate::train::{DryRun, Hook, Hooks, Summary, TrainSettings, Trained, dry_run, train};

/// Steps by which an arm's pace is measured.
const MEASURED: u64 = 7;

/// How arms are trained.
#[derive(Clone, Debug)]
pub struct CompareSettings {
    /// What each training may take.
    pub budget: Budget,
    /// The rates that are tried for each arm.
    pub rates: Rates,
    /// Seeds that the best rate of each arm is trained with: as many from the settings' own on.
    pub seeds: u64,
    /// All else. Steps, rate, method and warm-up are the arms' own: a tenth of the steps is the longest warm-up.
    pub training: TrainSettings,
}

impl CompareSettings {
    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.training.threads.unwrap_or_else(rayon::current_num_threads)
    }
}

/// Is told what goes on, and looks at trainings.
pub trait Watcher {
    /// An arm's pace is measured.
    fn measuring(&mut self, _arm: &Arm) {}

    /// A training begins; what looks at it.
    fn training(&mut self, arm: &Arm, learning_rate: f64, seed: u64) -> Box<dyn Hook>;
}

/// Looks at nothing.
impl Watcher for () {
    fn training(&mut self, _: &Arm, _: f64, _: u64) -> Box<dyn Hook> {
        Box::new(())
    }
}

/// The model and rows that all arms begin with.
pub struct Comparison {
    folder: PathBuf,
    config: DecoderConfig,
    identity: ModelIdentity,
    rows: Split,
    data: ComparedRows,
    evaluated: Option<Vec<Example>>,
    /// Seconds that filling the cache takes, by frost line.
    fillings: BTreeMap<usize, f64>,
}

impl Comparison {
    /// Reads the files and holds back a share of the training rows.
    ///
    /// # Errors
    /// As for [`Job::open`](crate::run::Job::open) and [`Split::new`].
    pub fn open(files: &JobFiles, held_out: f64, seed: u64) -> Result<Comparison, Error> {
        let (model, read, evaluated) = files.read()?;
        let rows = Split::new(read.examples, held_out, seed)?;
        Ok(Comparison {
            data: ComparedRows {
                file: read.digest,
                rows_as: read.read,
                max_length: read.max_length,
                held_out,
                seed,
                trained_rows: rows.trained.len(),
                held_out_rows: rows.held_out.len(),
                evaluated: evaluated.as_ref().map(data::digest),
            },
            rows,
            identity: model.identity()?,
            folder: model.path,
            config: model.config,
            evaluated,
            fillings: BTreeMap::new(),
        })
    }

    /// Rows to train on, and rows held back.
    pub fn rows(&self) -> &Split {
        &self.rows
    }

    /// What the results of these arms, trained like this, come from.
    pub fn origin(&self, arms: &[Arm], settings: &CompareSettings) -> ResultsOrigin {
        let TrainSettings { training, device, precision, .. } = &settings.training;
        ResultsOrigin {
            format: FORMAT,
            model: self.identity.clone(),
            data: self.data.clone(),
            budget: settings.budget,
            rates: settings.rates.clone(),
            seeds: settings.seeds,
            training: training.clone(),
            device: match (device, precision.unwrap_or(ComputePrecision::of(*device))) {
                (Device::Cpu, ComputePrecision::F32) => "cpu in f32",
                (Device::Cpu, ComputePrecision::Bf16) => "cpu in bf16",
                (Device::Cuda(_), ComputePrecision::F32) => "cuda in f32",
                (Device::Cuda(_), ComputePrecision::Bf16) => "cuda in bf16",
            }
            .into(),
            caches: settings.training.cache.is_some(),
            arms: arms.iter().map(ArmIdentity::of).collect(),
        }
    }

    /// Trains an arm at each rate and, at the best, with each seed. The best is that of the least loss on the rows held
    /// back when its steps are done; a training that diverges is none.
    ///
    /// # Errors
    /// As for [`train`] and [`evaluate`], but for divergence; [`Error::EvaluationLoss`] where the loss on the rows to
    /// evaluate on is not finite.
    pub fn train(
        &mut self,
        arm: &Arm,
        settings: &CompareSettings,
        watcher: &mut dyn Watcher,
    ) -> Result<ArmResult, Error> {
        let method = arm.training_method(&self.config);
        let scope = Scope::of_plan(&arm.plan, &self.identity, &self.config)?.by(&self.config, &method)?;
        let mut settings = settings.clone();
        settings.training.training.method = method;
        let pace = match settings.budget {
            Budget::Steps(_) => Pace { step: 0.0, prefix: 0.0 },
            Budget::Seconds(_) => {
                watcher.measuring(arm);
                self.pace(&scope, &settings.training)?
            }
        };
        let mut series = Series { comparison: self, arm, scope, settings, pace, watcher, trainings: Vec::new() };
        let best = series.sweep()?;
        let Series { scope, trainings, .. } = series;
        Ok(ArmResult {
            name: arm.name.clone(),
            plan: arm.plan.id,
            frost_line: scope.frost_line(&self.config),
            trained_parameters: scope.parameters(&self.config),
            predicted: arm.plan.planned_cost().map(|cost| cost.share),
            best,
            trainings,
        })
    }

    /// How fast steps are: the median of a few, and of it the share that a dry run finds below the frost line.
    fn pace(&self, scope: &Scope, settings: &TrainSettings) -> Result<Pace, Error> {
        let training = TrainingSettings { steps: MEASURED, learning_rate: 0.0, ..settings.training.clone() };
        let settings = TrainSettings { training, cache: None, ..settings.clone() };
        let rows = &self.rows.trained;
        let DryRun { step_seconds, prefix_seconds, .. } =
            dry_run(self.model()?, scope.clone(), rows, &settings, &mut ())?;
        let mut summary = Summary::default();
        train(self.model()?, &self.identity, scope.clone(), rows, &settings, &mut summary)?;
        let step = summary.median_step_seconds();
        Ok(Pace { step, prefix: step * (prefix_seconds / step_seconds).clamp(0.0, 0.99) })
    }

    /// The weights are mapped, not read: each training opens them anew.
    fn model(&self) -> Result<ModelFolder, Error> {
        Ok(ModelFolder::open(&self.folder)?)
    }
}

/// The trainings of one arm.
struct Series<'a> {
    comparison: &'a mut Comparison,
    arm: &'a Arm,
    scope: Scope,
    settings: CompareSettings,
    pace: Pace,
    watcher: &'a mut dyn Watcher,
    trainings: Vec<TrainedArm>,
}

impl Series<'_> {
    /// Returns the best rate.
    fn sweep(&mut self) -> Result<Option<f64>, Error> {
        let config = &self.comparison.config;
        let method = &self.settings.training.training.method;
        let start = sweep::start(method.learning_rate(self.arm.plan.learning_rates(config)));
        let (rates, seed) = (self.settings.rates.clone(), self.settings.training.training.seed);
        let (mut best, mut least) = (None, f64::INFINITY);
        rates.sweep(start, &mut |rate| {
            let loss = self.train(rate, seed, least)?.unwrap_or(f64::INFINITY);
            if loss < least {
                (best, least) = (Some(rate), loss);
            }
            Ok::<f64, Error>(loss)
        })?;
        if let Some(rate) = best {
            for next in 1..self.settings.seeds {
                self.train(rate, seed.wrapping_add(next), f64::INFINITY)?;
            }
        }
        Ok(best)
    }

    /// Trains once, and evaluates where the loss on the rows held back is less than `least`. Returns that loss; `None`
    /// where the training diverged.
    fn train(&mut self, learning_rate: f64, seed: u64, least: f64) -> Result<Option<f64>, Error> {
        let (settings, spending) = self.spend(learning_rate, seed);
        let comparison = &*self.comparison;
        let Split { trained: rows, held_out } = &comparison.rows;
        let frost_line = self.scope.frost_line(&comparison.config);
        let filling = match spending.cached {
            true => comparison.fillings.get(&frost_line).copied().unwrap_or(spending.filling),
            false => 0.0,
        };
        let batch_size = settings.training.batch_size;
        let mut watch = Watch::new(held_out, batch_size, self.settings.budget.seconds(), rows.len(), filling);
        let mut hook = self.watcher.training(self.arm, learning_rate, seed);
        let tells_peak = reset_peak();
        let trained = {
            let mut hooks = Hooks::default().with(&mut watch).with(&mut *hook);
            train(comparison.model()?, &comparison.identity, self.scope.clone(), rows, &settings, &mut hooks)
        };
        let mut run = TrainedArm {
            learning_rate,
            seed,
            peak_bytes: peak_bytes().filter(|_| tells_peak),
            ..TrainedArm::default()
        };
        let trained = match trained {
            Ok(trained) => Some(trained),
            Err(Error::Loss { .. } | Error::Gradient { .. } | Error::Diverged { .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some(Trained { model, .. }) = trained {
            run.held_out_loss = self.held_out_loss(&model, &mut watch, &settings)?;
            if run.held_out_loss.is_some_and(|loss| loss < least) {
                run.evaluation = self.evaluation(&model, &settings, &mut *hook)?;
            }
        }
        let Watch { steps, seconds, curve, filling_seconds, .. } = watch;
        (run.steps, run.seconds, run.curve, run.filling_seconds) = (steps, seconds, curve, filling_seconds);
        let loss = run.held_out_loss;
        self.learn(&run, spending.cached, frost_line);
        self.trainings.push(run);
        Ok(loss)
    }

    /// The settings of one training within the budget.
    fn spend(&self, learning_rate: f64, seed: u64) -> (TrainSettings, Spending) {
        let CompareSettings { budget, training, .. } = &self.settings;
        let rows = training.training.batch_size.saturating_mul(training.training.accumulation);
        let passes = rows as f64 / self.comparison.rows.trained.len().max(1) as f64;
        let may_cache = training.cache.is_some() && self.scope.frost_line(&self.comparison.config) > 0;
        let spending = budget.spend(self.pace, passes, may_cache);
        let cache = training.cache.clone().filter(|_| spending.cached);
        let cache = cache.map(|cache| CacheSettings { using: CacheUse::WhereItPays, ..cache });
        let own = TrainingSettings {
            steps: spending.steps,
            learning_rate,
            seed,
            warmup_steps: training.training.warmup_steps.min(spending.steps / 10),
            ..training.training.clone()
        };
        (TrainSettings { training: own, cache, ..training.clone() }, spending)
    }

    /// What later trainings know from this one: how long steps take and how long filling the cache does.
    fn learn(&mut self, run: &TrainedArm, cached: bool, frost_line: usize) {
        if run.steps > 0 && self.settings.budget.seconds().is_some() {
            let step = (run.seconds - run.filling_seconds) / run.steps as f64;
            self.pace.step = if cached { step + self.pace.prefix } else { step };
        }
        if cached && run.filling_seconds > 0.0 {
            self.comparison.fillings.entry(frost_line).or_insert(run.filling_seconds);
        }
    }

    /// The loss at the end, which is the last of the curve; `None` where it is not finite.
    fn held_out_loss(&self, model: &Model, watch: &mut Watch, settings: &TrainSettings) -> Result<Option<f64>, Error> {
        if watch.curve.last().is_none_or(|point| point.step < watch.steps) {
            let (rows, batch_size) = (&self.comparison.rows.held_out, settings.training.batch_size);
            watch.point(on_threads(settings.threads, || mean_loss(model, rows, batch_size))??);
        }
        Ok(watch.curve.last().map(|point| point.held_out_loss).filter(|loss| loss.is_finite()))
    }

    fn evaluation(
        &self,
        model: &Model,
        settings: &TrainSettings,
        hook: &mut dyn Hook,
    ) -> Result<Option<Evaluation>, Error> {
        let Some(rows) = &self.comparison.evaluated else { return Ok(None) };
        let batch_size = settings.training.batch_size;
        let mut progress = |done, all| hook.evaluating(done, all);
        let found = on_threads(settings.threads, || evaluate(model, rows, batch_size, &mut progress))??;
        found.finite(&self.comparison.folder).map(Some)
    }
}
