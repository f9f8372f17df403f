//! What a plan is made of: a model, the sample of examples, and the batches that they are run in.

use frostline_schemas::data::{self, Encoder, Example, Examples};
use frostline_schemas::model::{ModelFolder, ModelIdentity};
use frostline_schemas::plan::DataIdentity;
use frostline_schemas::select::{self, ROWS_PER_STEP, StepShape};

use super::settings::PlanSettings;
use crate::batch::{self, BatchGroup, BatchLimits};
use crate::error::Result;
use crate::salf::measured::rounded;
use crate::traces::merge::ExpectedTraces;

/// Tokens of a batch, padding included: enough to fill the matrix products of two cores.
const TOKENS_PER_BATCH: usize = 512;

/// A model and the sample that it is run over.
pub(crate) struct PlanningTask {
    pub folder: ModelFolder,
    pub model: ModelIdentity,
    /// The sampled examples.
    pub examples: Vec<Example>,
    /// What identifies them.
    pub data: DataIdentity,
    /// All of the sample's batches.
    pub groups: Vec<BatchGroup>,
}

impl PlanningTask {
    /// Reads the examples, draws the sample and sorts it into batches.
    pub(crate) fn read(settings: &PlanSettings, folder: ModelFolder) -> Result<PlanningTask> {
        let encoder = Encoder::new(&folder.path);
        let read = data::read_examples(&folder.config, &encoder, &settings.data, &settings.rows)?;
        let chosen = select::sample(read.examples.len(), settings.examples, settings.seed);
        let examples: Vec<Example> = chosen.into_iter().filter_map(|index| read.examples.get(index).cloned()).collect();
        let data = identity(settings, &read, &examples);
        let limits = BatchLimits { tokens: TOKENS_PER_BATCH, length: folder.config.max_positions };
        let groups = batch::groups(&examples, limits);
        Ok(PlanningTask { model: folder.identity()?, folder, examples, data, groups })
    }

    /// The step that costs are worked out for.
    pub(crate) fn step(&self) -> StepShape {
        let mean = |count: fn(&Example) -> usize| {
            rounded(self.examples.iter().map(count).sum::<usize>() as f64 / self.examples.len().max(1) as f64)
        };
        StepShape {
            rows: ROWS_PER_STEP,
            tokens_per_row: mean(|example| example.tokens.len()),
            targets_per_row: mean(|example| example.targets.len()),
        }
    }

    /// What traces must have been computed from to make a plan of this task.
    pub(crate) fn expected_traces<'a>(&'a self, settings: &'a PlanSettings) -> ExpectedTraces<'a> {
        ExpectedTraces {
            model: &self.model,
            data: &self.data,
            latent_spaces: settings.latent_spaces.as_deref(),
            groups: &self.groups,
        }
    }
}

fn identity(settings: &PlanSettings, read: &Examples, examples: &[Example]) -> DataIdentity {
    DataIdentity {
        file: read.digest,
        rows: read.rows,
        examples: examples.len(),
        seed: settings.seed,
        max_length: read.max_length,
        sample: data::digest(examples),
        tokens: examples.iter().map(|example| example.tokens.len() as u64).sum(),
        targets: examples.iter().map(|example| example.targets.len() as u64).sum(),
        rows_as: read.read.clone(),
    }
}
