//! Chooses tensors by strategies that look at no examples: from the model's config, or from its weights.

use frostline_schemas::model::ModelFolder;
use frostline_schemas::select::{CostTable, StepShape, Strategy, scope};

use super::spectrum;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// The tensors that a strategy chose to train.
pub(crate) struct Choice {
    /// Their names.
    pub tensors: Vec<String>,
    /// The lowest layer that holds one of them.
    pub frost_line: usize,
    /// What a step costs that trains them.
    pub cost: CostTable,
}

/// Chooses by a strategy that is not [`Strategy::Salf`]; `seed` is for those that draw lots.
pub(crate) fn choose(
    strategy: &Strategy,
    folder: &ModelFolder,
    seed: u64,
    step: StepShape,
    progress: &dyn Progress,
) -> Result<Choice> {
    let config = &folder.config;
    let tensors = match (strategy.tensors(config, seed), strategy) {
        (Some(tensors), _) => tensors?,
        (None, Strategy::Spectrum(share)) => spectrum::tensors(folder, *share, progress)?,
        (None, _) => {
            let reason = format!("strategy {strategy} runs the model");
            return Err(Error::Setting { setting: "strategy", reason });
        }
    };
    let cost = CostTable::of_tensors(config, step, &tensors);
    Ok(Choice { frost_line: scope::frost_line(config, &tensors), cost, tensors })
}

impl Choice {
    /// A rule chooses what it chooses; a budget can only refuse it.
    pub(crate) fn check_budget(&self, budget: Option<f64>, strategy: &Strategy) -> Result<()> {
        let costs = self.cost.of_plan(self.frost_line).zip(self.cost.at(0));
        let (Some(budget), Some((planned, full))) = (budget, costs) else { return Ok(()) };
        let share = planned.flops as f64 / full.flops as f64;
        if share <= budget {
            return Ok(());
        }
        let reason = format!(
            "strategy {strategy}: a step costs {share:.4} of a full one, more than the budget of {budget}; raise it, or \
             train less"
        );
        Err(Error::Setting { setting: "budget", reason })
    }
}
