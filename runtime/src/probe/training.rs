//! One short training, and what it gives on the rows held back.

use std::path::PathBuf;

use frostline_schemas::data::Example;
use frostline_schemas::model::{DecoderConfig, ModelFolder, ModelIdentity};
use frostline_schemas::plan::ProbeTraining;
use frostline_schemas::run::{Order, TrainingSettings};

use super::arms::Arm;
use crate::cache::{CacheSettings, CacheUse};
use crate::error::Error;
use crate::evaluate::{evaluate, losses_above};
use crate::model::Scope;
use crate::system::on_threads;
use crate::train::{Hook, Hooks, Summary, TrainSettings, Trained, train};

/// The model and rows that all probes begin with.
pub(super) struct Prober {
    pub folder: PathBuf,
    pub config: DecoderConfig,
    pub identity: ModelIdentity,
    /// In an order drawn by a seed: each probe takes the first of them.
    pub rows: Vec<Example>,
    pub held_out: Vec<Example>,
    /// Steps, rate, order and cache are the probes' own.
    pub settings: TrainSettings,
}

/// What a probe gave.
pub(super) struct Probed {
    pub training: ProbeTraining,
    /// −ln p of each row held back; empty where it diverged.
    pub losses: Vec<f64>,
    /// Median seconds of a step.
    pub step_seconds: f64,
    /// Loss of the first step, before its update.
    pub first_loss: f64,
}

impl Prober {
    /// Trains an arm's tensors; `ranks` says whether completions are ranked, too, which takes longer.
    pub(super) fn probe(
        &self,
        arm: &Arm,
        learning_rate: f64,
        steps: u64,
        ranks: bool,
        hook: &mut dyn Hook,
    ) -> Result<Probed, Error> {
        let settings = self.settings_of(learning_rate, steps);
        let wanted = steps.saturating_mul(settings.training.batch_size as u64).min(self.rows.len() as u64) as usize;
        let rows = self.rows.get(..wanted).unwrap_or_default();
        let scope = Scope::of_names(&self.config, arm.candidate.tensors.iter().map(String::as_str))?;
        let mut summary = Summary::default();
        let trained = {
            let mut hooks = Hooks::default().with(&mut summary).with(hook);
            train(ModelFolder::open(&self.folder)?, &self.identity, scope, rows, &settings, &mut hooks)
        };
        let mut probed = Probed {
            training: ProbeTraining { learning_rate, steps, loss: None, accuracy: None },
            losses: Vec::new(),
            step_seconds: summary.median_step_seconds(),
            first_loss: summary.first_loss(),
        };
        match trained {
            Ok(trained) => self.measure(&trained, &settings, ranks, &mut probed)?,
            Err(Error::Loss { .. } | Error::Gradient { .. } | Error::Diverged { .. }) => (),
            Err(error) => return Err(error),
        }
        Ok(probed)
    }

    fn measure(
        &self,
        trained: &Trained,
        settings: &TrainSettings,
        ranks: bool,
        probed: &mut Probed,
    ) -> Result<(), Error> {
        let (rows, batch_size, cache) = (&self.held_out, settings.training.batch_size, settings.cache.as_ref());
        let model = &trained.model;
        let losses = on_threads(settings.threads, || losses_above(model, &self.identity, rows, batch_size, cache))??;
        let targets: usize = rows.iter().map(|row| row.targets.len()).sum();
        let loss = losses.iter().sum::<f64>() / targets.max(1) as f64;
        if !loss.is_finite() {
            return Ok(());
        }
        (probed.training.loss, probed.losses) = (Some(loss), losses);
        if ranks {
            let found = on_threads(settings.threads, || evaluate(model, rows, batch_size, &mut |_, _| ()))??;
            probed.training.accuracy = found.ranking.map(|ranking| ranking.accuracy);
        }
        Ok(())
    }

    /// States of the rows are computed once for all probes with the same frost line.
    fn settings_of(&self, learning_rate: f64, steps: u64) -> TrainSettings {
        let training = TrainingSettings {
            steps,
            learning_rate,
            order: Order::File,
            warmup_steps: self.settings.training.warmup_steps.min(steps / 10),
            ..self.settings.training.clone()
        };
        let cache = self.settings.cache.clone().map(|cache| CacheSettings { using: CacheUse::WherePossible, ..cache });
        TrainSettings { training, cache, ..self.settings.clone() }
    }
}
