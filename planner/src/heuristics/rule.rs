//! Plans by strategies that look at no examples: from the model's config, or from its weights.

use frostline_schemas::digest::Digest;
use frostline_schemas::plan::{DecidedBy, Decision, Plan, PlanMethod, REVISION, VERSION};
use frostline_schemas::select::CostTable;
use frostline_schemas::select::Strategy;
use frostline_schemas::select::scope;

use super::spectrum;
use crate::error::{Error, Result};
use crate::plan::{PlanSettings, Task};
use crate::progress::Progress;

/// Makes the plan of a task by its settings' strategy, which is not [`Strategy::Salf`].
pub fn plan(settings: &PlanSettings, task: Task, progress: &dyn Progress) -> Result<Plan> {
    let (strategy, config) = (&settings.strategy, &task.folder.config);
    let tensors = match (strategy.tensors(config, settings.seed), strategy) {
        (Some(tensors), _) => tensors?,
        (None, Strategy::Spectrum(share)) => spectrum::tensors(&task.folder, *share, progress)?,
        (None, _) => return Err(Error::Setting(format!("strategy {strategy} runs the model"))),
    };
    let frost_line = scope::frost_line(config, &tensors);
    let cost = CostTable::of_tensors(config, task.step(), &tensors);
    check_budget(settings, &cost, frost_line)?;
    let unset = Digest::of(b"");
    let mut plan = Plan {
        version: VERSION,
        revision: REVISION,
        id: unset,
        model: task.model,
        onnx: None,
        data: task.sample.identity,
        method: PlanMethod {
            strategy: strategy.clone(),
            gain: None,
            aggregate: None,
            min_trainable_layers: None,
            budget: settings.budget,
            latent_spaces: None,
        },
        engine: None,
        decision: Decision {
            frost_line,
            decided_by: DecidedBy::Strategy,
            before_budget: frost_line,
            per_example: None,
        },
        spaces: Vec::new(),
        ridge: None,
        cost,
        tensors,
        checksum: unset,
    };
    plan.seal();
    Ok(plan)
}

/// A rule chooses what it chooses; a budget can only refuse it.
fn check_budget(settings: &PlanSettings, cost: &CostTable, frost_line: usize) -> Result<()> {
    let (Some(budget), Some(planned), Some(full)) = (settings.budget, cost.of_plan(frost_line), cost.at(0)) else {
        return Ok(());
    };
    let share = planned.flops as f64 / full.flops as f64;
    if share <= budget {
        return Ok(());
    }
    let strategy = &settings.strategy;
    Err(Error::Setting(format!(
        "strategy {strategy}: a step costs {share:.4} of a full one, more than --budget {budget}; raise it, or train less"
    )))
}
