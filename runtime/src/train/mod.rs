//! Training: examples → batches → prefix → suffix, loss and gradients → optimiser, until the steps are done.

mod algorithm;
mod dry_run;
mod hook;
mod optimizer;
mod schedule;
mod settings;
mod step;
mod summary;

use std::time::Instant;

use frostline_schemas::data::Example;
use frostline_schemas::model::{ModelFolder, ModelIdentity};

pub use self::dry_run::{DryRun, dry_run};
pub use self::hook::{Caching, Hook, Hooks, Start, Step, Trained};
pub use self::optimizer::{AdamW, Optimizer, TensorState, Update};
pub use self::settings::{FrostLines, TrainSettings};
pub use self::summary::Summary;

use self::algorithm::Algorithm;
use self::step::{Trainer, prepare};
use crate::error::Error;
use crate::model::Scope;
use crate::system::on_threads;

/// Trains the tensors of a scope. `identity` is the model's own.
///
/// # Errors
/// [`Error::Setting`] for settings that make no sense, [`Error::Coverage`] where the first step does not reach exactly
/// the scope's tensors, [`Error::Loss`], [`Error::Gradient`] and [`Error::Diverged`] where training diverges,
/// [`Error::Token`] and [`Error::TooLong`] for rows that the model cannot take, and what `hook` returns.
pub fn train(
    folder: ModelFolder,
    identity: &ModelIdentity,
    scope: Scope,
    examples: &[Example],
    settings: &TrainSettings,
    hook: &mut dyn Hook,
) -> Result<Trained, Error> {
    let begun = Instant::now();
    let model = prepare(folder, scope, examples, settings)?;
    on_threads(settings.threads, || {
        let mut trainer = Trainer::new(model, Algorithm::of(&settings.training), settings, examples);
        trainer.check_reach()?;
        let start = trainer.start(hook)?;
        let source = trainer.state_source(settings.cache.as_ref(), identity, hook)?;
        hook.started(&start)?;
        trainer.run(&source, hook)?;
        // The loss of a step is that before its update: nothing has seen what the last one did.
        trainer.model.parameters().check_finite()?;
        let seconds = begun.elapsed().as_secs_f64();
        let trained = Trained { model: trainer.model, base_weights: identity.weights, seconds };
        hook.trained(&trained)?;
        Ok(trained)
    })?
}
