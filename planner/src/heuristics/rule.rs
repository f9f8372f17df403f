//! Chooses tensors by strategies that look at no examples: from the model's config, or from its weights.

use frostline_schemas::model::ModelFolder;
use frostline_schemas::plan::Draft;
use frostline_schemas::select::Strategy;

use super::spectrum;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// The tensors that a strategy trains which runs no model; `seed` is for those that draw lots.
pub(crate) fn choose(
    strategy: &Strategy,
    folder: &ModelFolder,
    seed: u64,
    progress: &dyn Progress,
) -> Result<Vec<String>> {
    match (strategy.tensors(&folder.config, seed), strategy) {
        (Some(tensors), _) => Ok(tensors?),
        (None, Strategy::Spectrum(share)) => spectrum::tensors(folder, *share, progress),
        (None, _) => {
            let reason = format!("strategy {strategy} needs gradients, which this half of Frostline does not compute");
            Err(Error::Setting { setting: "strategy", reason })
        }
    }
}

/// A rule chooses what it chooses; a budget can only refuse it.
pub(crate) fn check_budget(draft: &Draft, budget: Option<f64>) -> Result<()> {
    let costs = draft.cost.of_plan(draft.decision.frost_line).zip(draft.cost.at(0));
    let (Some(budget), Some((planned, full))) = (budget, costs) else { return Ok(()) };
    let share = planned.flops as f64 / full.flops as f64;
    if share <= budget {
        return Ok(());
    }
    let strategy = &draft.method.strategy;
    let reason = format!(
        "strategy {strategy}: a step costs {share:.4} of a full one, more than the budget of {budget}; raise it, or \
         train less"
    );
    Err(Error::Setting { setting: "budget", reason })
}
