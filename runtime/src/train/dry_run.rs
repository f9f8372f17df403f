//! A dry run: what training will cost, measured on a few steps of which nothing is kept.

use std::ops::ControlFlow;
use std::time::Instant;

use frostline_schemas::data::Example;
use frostline_schemas::model::ModelFolder;

use crate::error::Error;
use crate::model::Scope;
use crate::system::{on_threads, peak_bytes};
use crate::train::algorithm::Algorithm;
use crate::train::hook::{Hook, Hooks, Start, Step};
use crate::train::settings::TrainSettings;
use crate::train::step::{MicroBatch, Trainer, TypicalSteps, prepare};

/// Steps that are timed, after one of the largest batch.
const TIMED: u64 = 2;

/// What a run will take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DryRun {
    /// What would be trained.
    pub start: Start,
    /// Of a step with about the mean work, without a cache.
    pub step_seconds: f64,
    /// The part of it that goes where the state at the frost line comes from a cache.
    pub prefix_seconds: f64,
    /// Tokens of the step that keeps the most in memory.
    pub largest_tokens: usize,
    /// The largest resident memory of this process, the largest step included, in bytes; where the system tells.
    pub peak_bytes: Option<u64>,
}

impl DryRun {
    /// Of a step that reads the state at the frost line from a cache.
    pub fn cached_step_seconds(&self) -> f64 {
        (self.step_seconds - self.prefix_seconds).max(0.0)
    }
}

/// Seconds of each step.
#[derive(Default)]
struct StepTimes(Vec<f64>);

impl Hook for StepTimes {
    fn step(&mut self, step: &Step) -> Result<ControlFlow<()>, Error> {
        self.0.push(step.metrics.seconds);
        Ok(ControlFlow::Continue(()))
    }
}

/// Takes a few steps in memory, one of them the run's largest, and throws them away.
///
/// # Errors
/// As for [`train`](crate::train::train).
pub fn dry_run(
    folder: ModelFolder,
    scope: Scope,
    examples: &[Example],
    settings: &TrainSettings,
    hook: &mut dyn Hook,
) -> Result<DryRun, Error> {
    let model = prepare(folder, scope, examples, settings)?;
    on_threads(settings.threads, || {
        let mut trainer = Trainer::new(model, Algorithm::of(&settings.training), settings, examples);
        trainer.check_reach()?;
        let start = trainer.start(&mut ())?;
        let mut times = StepTimes::default();
        let mut hooks = Hooks::default().with(&mut times).with(hook);
        hooks.started(&start)?;
        let TypicalSteps { largest, usual } = trainer.typical_steps();
        let largest_tokens = largest.iter().map(|micro| micro.batch.tokens.len()).sum();
        // A dry run takes all its steps, whatever the hook says.
        let _ = trainer.take(0, 0.0, largest, Instant::now(), &mut hooks)?;
        let mut prefixes = Vec::new();
        for step in 1..=TIMED {
            let begun = Instant::now();
            for MicroBatch { batch, .. } in &usual {
                trainer.model.prefix(batch)?;
            }
            prefixes.push(begun.elapsed().as_secs_f64());
            let _ = trainer.take(step, 0.0, usual.clone(), Instant::now(), &mut hooks)?;
        }
        drop(hooks);
        let least = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
        Ok(DryRun {
            start,
            step_seconds: least(times.0.get(1..).unwrap_or_default()),
            prefix_seconds: least(&prefixes),
            largest_tokens,
            peak_bytes: peak_bytes(),
        })
    })?
}
