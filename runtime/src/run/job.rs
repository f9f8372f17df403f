//! A whole training: from files on disk to a run folder and an evaluation.

use std::path::{Path, PathBuf};

use frostline_schemas::data::{self, Encoder, Example, Examples, RowSettings};
use frostline_schemas::model::DecoderConfig;
use frostline_schemas::model::{ModelFolder, ModelIdentity};
use frostline_schemas::plan::Plan;
use frostline_schemas::run::{RunRecord, TrainingMethod, VERSION};

use crate::error::Error;
use crate::evaluate::{Evaluation, evaluate};
use crate::model::Scope;
use crate::run::writer::RunWriter;
use crate::system::on_threads;
use crate::train::{DryRun, Hook, Hooks, TrainSettings, Trained, dry_run, train};

/// The files of a training.
#[derive(Clone, Debug)]
pub struct JobFiles {
    /// Folder of config.json, safetensors and tokenizer.json.
    pub model: PathBuf,
    /// The file of examples to train on.
    pub data: PathBuf,
    /// The file of examples to evaluate the trained model on.
    pub eval: Option<PathBuf>,
    /// How their rows become examples.
    pub rows: RowSettings,
}

impl JobFiles {
    /// Whether a [`Job`] can be made of them; the weights' digest is not computed.
    ///
    /// # Errors
    /// As for [`Job::open`].
    pub fn check(&self) -> Result<(), Error> {
        self.read().map(drop)
    }

    /// The model, and the rows to train on and to evaluate on.
    pub(crate) fn read(&self) -> Result<(ModelFolder, Examples, Option<Vec<Example>>), Error> {
        let model = ModelFolder::open(&self.model)?;
        let encoder = Encoder::new(&model.path);
        let trained_on = data::read_examples(&model.config, &encoder, &self.data, &self.rows)?;
        let held_out = match &self.eval {
            // As those were read that the model is trained on.
            Some(path) => {
                let rows = self.rows.clone().bound_by(&trained_on.read, trained_on.max_length, &self.data)?;
                Some(data::read_examples(&model.config, &encoder, path, &rows)?.examples)
            }
            None => None,
        };
        Ok((model, trained_on, held_out))
    }
}

/// Files that were read, those for the evaluation included, so that a bad row does not cost a training.
pub struct Job {
    model: ModelFolder,
    identity: ModelIdentity,
    data: Examples,
    held_out: Option<Vec<Example>>,
}

/// What a job leaves.
pub struct Finished {
    /// The trained model.
    pub trained: Trained,
    /// Layers frozen, counted from the input.
    pub frost_line: usize,
    /// Elements of all trained tensors.
    pub trained_parameters: u64,
    /// What training took, without the evaluation.
    pub seconds: f64,
    /// Of the trained model, where there was something to evaluate it on.
    pub evaluation: Option<Evaluation>,
}

impl Job {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Error::Folder`] where the model's cannot be used, [`Error::Examples`] for rows that cannot.
    pub fn open(files: &JobFiles) -> Result<Job, Error> {
        let (model, data, held_out) = files.read()?;
        Ok(Job { identity: model.identity()?, model, data, held_out })
    }

    /// The model's description.
    pub fn config(&self) -> &DecoderConfig {
        &self.model.config
    }

    /// Tokens of an example at most.
    pub fn max_length(&self) -> usize {
        self.data.max_length
    }

    /// Examples to train on.
    pub fn examples(&self) -> usize {
        self.data.examples.len()
    }

    /// Says in the log how many rows have a frost line of their own, and what the others have.
    ///
    /// # Errors
    /// [`Error::Shallow`] where no row reaches down to the plan's frost line, so that planned layers would never train.
    fn check_frost_lines(&self, plan: &Plan, settings: &TrainSettings) -> Result<(), Error> {
        let Some(lines) = &settings.frost_lines else { return Ok(()) };
        let own: Vec<usize> = self.data.examples.iter().filter_map(|row| lines.of_examples.of(row)).collect();
        let (all, others) = (self.examples(), lines.of_others);
        let rest = (own.len() < all).then_some(others);
        let planned = plan.decision.frost_line;
        match own.iter().copied().chain(rest).min() {
            Some(deepest) if deepest > planned => return Err(Error::Shallow { own: own.len(), all, deepest, planned }),
            _ => tracing::info!("{} of {all} rows have a frost line of their own, the others {others}", own.len()),
        }
        Ok(())
    }

    /// Says what training would cost: see [`dry_run`].
    ///
    /// # Errors
    /// As for [`Job::run`].
    pub fn dry_run(self, plan: &Plan, settings: &TrainSettings, hook: &mut dyn Hook) -> Result<DryRun, Error> {
        self.check_frost_lines(plan, settings)?;
        let scope = self.scope(plan, &settings.training.method)?;
        dry_run(self.model, scope, &self.data.examples, settings, hook)
    }

    /// Trains by a plan and evaluates, and writes nothing.
    ///
    /// # Errors
    /// [`Error::Plan`] where the plan is for another model, and those of [`train`] and [`evaluate`];
    /// [`Error::EvaluationLoss`] where the loss on the rows to evaluate on is not finite.
    pub fn run(self, plan: &Plan, settings: &TrainSettings, hook: &mut dyn Hook) -> Result<Finished, Error> {
        self.check_frost_lines(plan, settings)?;
        let scope = self.scope(plan, &settings.training.method)?;
        self.finish(scope, settings, hook)
    }

    /// The same with a run folder, which is whole before the evaluation begins.
    ///
    /// # Errors
    /// Those of [`Job::run`]; [`Error::Exists`] where there is something already, and [`Error::File`] where the folder
    /// cannot be written.
    pub fn run_into(
        self,
        folder: &Path,
        plan: &Plan,
        settings: &TrainSettings,
        hook: &mut dyn Hook,
    ) -> Result<Finished, Error> {
        self.check_frost_lines(plan, settings)?;
        let scope = self.scope(plan, &settings.training.method)?;
        let record = RunRecord {
            version: VERSION,
            plan: plan.id,
            frost_line: plan.decision.frost_line,
            trained_parameters: scope.parameters(&self.model.config),
            model: self.identity.clone(),
            model_folder: std::path::absolute(&self.model.path).map_err(Error::file(&self.model.path))?,
            data: self.data.digest,
            examples: self.data.examples.len(),
            rows_as: self.data.read.clone(),
            training: settings.training.clone(),
        };
        let mut hooks = Hooks::default().with(RunWriter::new(folder, record)?).with(hook);
        self.finish(scope, settings, &mut hooks)
    }

    fn scope(&self, plan: &Plan, method: &TrainingMethod) -> Result<Scope, Error> {
        let scope = Scope::of_plan(plan, &self.identity, &self.model.config)?.by(&self.model.config, method)?;
        plan.check_rows(&self.data)?;
        Ok(scope)
    }

    fn finish(self, scope: Scope, settings: &TrainSettings, hook: &mut dyn Hook) -> Result<Finished, Error> {
        let config = &self.model.config;
        let (frost_line, trained_parameters) = (scope.frost_line(config), scope.parameters(config));
        let folder = self.model.path.clone();
        let trained = train(self.model, &self.identity, scope, &self.data.examples, settings, hook)?;
        let seconds = trained.seconds;
        let evaluation = self.held_out.map(|examples| {
            let mut progress = |done, all| hook.evaluating(done, all);
            let rows = settings.training.batch_size;
            on_threads(settings.threads, || evaluate(&trained.model, &examples, rows, &mut progress))??.finite(&folder)
        });
        Ok(Finished { evaluation: evaluation.transpose()?, trained, frost_line, trained_parameters, seconds })
    }
}
