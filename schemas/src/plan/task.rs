//! What a plan is made for and bound to: a model, and rows of a task.

use std::path::Path;

use crate::data::{self, Encoder, Example, ExampleError, RowSettings};
use crate::digest::Digest;
use crate::model::{FolderError, ModelFolder, ModelIdentity};
use crate::plan::DataIdentity;
use crate::select::{self, ROWS_PER_STEP, StepShape};
use crate::units::significant;

/// A model and a sample of a task's rows.
pub struct PlanTask {
    /// The model's folder, opened.
    pub folder: ModelFolder,
    /// What identifies the model.
    pub model: ModelIdentity,
    /// The sampled examples, in the order drawn: a larger sample begins with a smaller one.
    pub examples: Vec<Example>,
    /// The place of each among the file's examples.
    drawn: Vec<usize>,
    /// What identifies them.
    pub data: DataIdentity,
}

/// A model folder or rows that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The model folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The rows.
    #[error(transparent)]
    Examples(#[from] ExampleError),
}

impl PlanTask {
    /// Reads a file of rows for a model, and draws `examples` of them by a seed.
    ///
    /// # Errors
    /// For rows that cannot be read, and where the weights cannot be identified.
    pub fn read(
        folder: ModelFolder,
        file: &Path,
        rows: &RowSettings,
        examples: usize,
        seed: u64,
    ) -> Result<PlanTask, TaskError> {
        let encoder = Encoder::new(&folder.path);
        let read = data::read_examples(&folder.config, &encoder, file, rows)?;
        let drawn = select::draw(read.examples.len(), examples, seed);
        let examples: Vec<Example> = drawn.iter().filter_map(|&index| read.examples.get(index).cloned()).collect();
        let model = folder.identity()?;
        let data = DataIdentity {
            file: read.digest,
            rows: read.rows,
            examples: examples.len(),
            seed,
            max_length: read.max_length,
            sample: digest(&drawn, &examples),
            tokens: tokens(&examples),
            targets: targets(&examples),
            rows_as: read.read,
        };
        Ok(PlanTask { folder, model, examples, drawn, data })
    }

    /// The same task with the first so many of its examples: what [`read`](PlanTask::read) gives for so many.
    pub fn first(mut self, examples: usize) -> PlanTask {
        self.examples.truncate(examples);
        self.drawn.truncate(examples);
        self.data = DataIdentity {
            examples: self.examples.len(),
            sample: digest(&self.drawn, &self.examples),
            tokens: tokens(&self.examples),
            targets: targets(&self.examples),
            ..self.data
        };
        self
    }

    /// The step that costs are worked out for.
    pub fn step(&self) -> StepShape {
        self.step_of(self.examples.len())
    }

    /// The same of the first so many examples.
    pub fn step_of(&self, examples: usize) -> StepShape {
        let examples = &self.examples[..examples.min(self.examples.len())];
        let mean = |count: fn(&Example) -> usize| {
            significant(examples.iter().map(count).sum::<usize>() as f64 / examples.len().max(1) as f64)
        };
        StepShape {
            rows: ROWS_PER_STEP,
            tokens_per_row: mean(|example| example.tokens.len()),
            targets_per_row: mean(|example| example.targets.len()),
        }
    }
}

/// The digest of examples in the order of their file.
fn digest(drawn: &[usize], examples: &[Example]) -> Digest {
    let mut placed: Vec<(&usize, &Example)> = drawn.iter().zip(examples).collect();
    placed.sort_unstable_by_key(|(place, _)| **place);
    data::digest(placed.into_iter().map(|(_, example)| example))
}

fn tokens(examples: &[Example]) -> u64 {
    examples.iter().map(|example| example.tokens.len() as u64).sum()
}

fn targets(examples: &[Example]) -> u64 {
    examples.iter().map(|example| example.targets.len() as u64).sum()
}
