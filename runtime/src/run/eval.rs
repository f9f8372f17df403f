//! A whole evaluation: from files on disk to the loss of a model, or of what a run made of it.

use std::path::PathBuf;

use frostline_schemas::data::{self, Encoder, Example, RowSettings};
use frostline_schemas::model::ModelFolder;

use crate::error::Error;
use crate::evaluate::{Evaluation, evaluate};
use crate::model::Model;
use crate::run::reader::Run;
use crate::system::{Device, on_threads};

/// The files of an evaluation.
#[derive(Clone, Debug)]
pub struct EvalFiles {
    /// Folder of config.json, safetensors and tokenizer.json.
    pub model: PathBuf,
    /// A run whose trained tensors take the place of the model's.
    pub run: Option<PathBuf>,
    /// The file of examples.
    pub data: PathBuf,
    /// How its rows become examples; with a run, what they leave open is as the run's own rows were read.
    pub rows: RowSettings,
}

/// How and where to evaluate.
#[derive(Clone, Copy, Debug)]
pub struct EvalSettings {
    /// Rows computed at a time.
    pub batch_size: usize,
    /// Where to compute.
    pub device: Device,
    /// Threads for the arithmetic; all that the machine has where `None`.
    pub threads: Option<usize>,
}

/// Files that were read, to evaluate with.
pub struct EvalJob {
    model: ModelFolder,
    run: Option<Run>,
    examples: Vec<Example>,
}

impl EvalJob {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Error::Folder`] where the model's cannot be used, [`Error::Examples`] for rows that cannot, and those of
    /// [`Run::open`].
    pub fn open(files: &EvalFiles) -> Result<EvalJob, Error> {
        let model = ModelFolder::open(&files.model)?;
        let run = files.run.as_deref().map(Run::open).transpose()?;
        let mut rows = files.rows.clone();
        if let Some(Run { record, folder, .. }) = &run {
            rows = rows.bound_by(&record.rows_as, record.training.max_length, folder)?;
        }
        let encoder = Encoder::new(&model.path);
        let examples = data::read_examples(&model.config, &encoder, &files.data, &rows)?.examples;
        Ok(EvalJob { model, run, examples })
    }

    /// Loads the model and evaluates it; `progress` is told how many rows of all are done, beginning with none.
    ///
    /// # Errors
    /// Those of [`Run::model`], [`Model::frozen`] and [`evaluate`]; [`Error::EvaluationLoss`] for a loss that is not
    /// finite.
    pub fn run(
        self,
        settings: &EvalSettings,
        progress: &mut (dyn FnMut(usize, usize) + Send),
    ) -> Result<Evaluation, Error> {
        let folder = self.model.path.clone();
        let model = match &self.run {
            Some(run) => run.model(self.model, settings.device, None)?,
            None => Model::frozen(self.model, settings.device, None)?,
        };
        progress(0, self.examples.len());
        let examples = &self.examples;
        on_threads(settings.threads, || evaluate(&model, examples, settings.batch_size, progress))??.finite(&folder)
    }
}
