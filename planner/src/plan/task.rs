//! Reads what a plan is made for, and sorts its sample into the batches that it is run in.

use frostline_schemas::model::ModelFolder;
use frostline_schemas::plan::PlanTask;

use super::settings::PlanSettings;
use crate::batch::{BatchGroup, BatchLimits, rounds};
use crate::error::Result;

/// Tokens of a batch, padding included: enough to fill the matrix products of two cores.
const TOKENS_PER_BATCH: usize = 512;

/// Reads the examples and draws the sample.
pub(crate) fn read(settings: &PlanSettings, folder: ModelFolder) -> Result<PlanTask> {
    let PlanSettings { data, rows, seed, .. } = settings;
    Ok(PlanTask::read(folder, data, rows, settings.most_examples(), *seed)?)
}

/// The sample's batches, round by round.
pub(crate) fn rounds(task: &PlanTask) -> Vec<Vec<BatchGroup>> {
    let limits = BatchLimits { tokens: TOKENS_PER_BATCH, length: task.folder.config.max_positions };
    let rounds = rounds::rounds(task.examples.len()).into_iter();
    rounds.map(|round| rounds::groups(&task.examples, round, limits)).collect()
}
