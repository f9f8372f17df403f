//! A dry run: what training will cost, measured on a few steps of which nothing is kept.

use std::time::Instant;

use frostline_schemas::data::Example;
use frostline_schemas::model::ModelFolder;

use crate::error::Error;
use crate::model::scope::Scope;
use crate::system::device;
use crate::train::{Prepared, Start, TrainSettings, Trainer, prepare};

/// Steps that are timed, after one of the largest batch.
const TIMED: u64 = 2;

/// What a run will take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rehearsal {
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

impl Rehearsal {
    /// Of a step that reads the state at the frost line from a cache.
    pub fn cached_step_seconds(&self) -> f64 {
        (self.step_seconds - self.prefix_seconds).max(0.0)
    }
}

/// Takes a few steps in memory, one of them the run's largest, and throws them away.
///
/// # Errors
/// As for [`train`](crate::train::train).
pub fn rehearse(
    model: ModelFolder,
    scope: Scope,
    examples: &[Example],
    settings: &TrainSettings,
) -> Result<Rehearsal, Error> {
    let (decoder, parameters) = prepare(model, scope, examples, settings)?;
    device::on_threads(settings.threads, || {
        let mut trainer = Trainer::new(decoder, parameters, settings, examples);
        trainer.check_reach(examples)?;
        let start = trainer.start()?;
        let (largest, usual) = trainer.typical_steps(examples);
        let tokens = |step: &[Prepared]| step.iter().map(|prepared| prepared.batch.tokens.len()).sum();
        let largest_tokens = tokens(&largest);
        trainer.step(0, largest, Instant::now())?;
        let mut times = Vec::new();
        let mut prefixes = Vec::new();
        for step in 1..=TIMED {
            let begun = Instant::now();
            for Prepared { batch, .. } in &usual {
                trainer.decoder.prefix(&trainer.parameters, batch)?;
            }
            prefixes.push(begun.elapsed().as_secs_f64());
            let prepared = usual.clone();
            times.push(trainer.step(step, prepared, Instant::now())?.seconds);
        }
        let least = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
        Ok(Rehearsal {
            start,
            step_seconds: least(&times),
            prefix_seconds: least(&prefixes),
            largest_tokens,
            peak_bytes: peak_bytes(),
        })
    })?
}

/// The largest resident memory of this process so far, in bytes.
pub fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}
