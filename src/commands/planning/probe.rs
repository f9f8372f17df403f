//! Plans by probes.

use frostline_planner::{PlanSettings, Planned, Strategy};
use frostline_runtime::probe::{self, Candidate, ProbeSettings};
use frostline_schemas::model::{self, ModelFolder};
use frostline_schemas::plan::PlanTask;

use crate::output::Output;
use crate::progress::{PlanningProgress, ProbeProgress};

/// The plan of what short trainings show, with the choice of SALF among the arms where there is an export.
pub(super) fn plan(settings: &PlanSettings, probing: &ProbeSettings, output: &Output) -> anyhow::Result<Planned> {
    settings.check()?;
    let proposed = match settings.has_export() {
        true => Some(by_salf(settings, output)?),
        false => {
            tracing::info!("no export is there, so what SALF chooses is not among the arms");
            None
        }
    };
    let PlanSettings { model, data, rows, seed, .. } = settings;
    let task = PlanTask::read(ModelFolder::open(model)?, data, rows, usize::MAX, *seed)?;
    let plan = probe::plan(task, proposed.into_iter().collect(), probing, &mut ProbeProgress::new(output))?;
    Ok(Planned { plan, example_frost_lines: None })
}

fn by_salf(settings: &PlanSettings, output: &Output) -> anyhow::Result<Candidate> {
    let settings = PlanSettings { strategy: Strategy::Salf, budget: None, ..settings.clone() };
    let plan = frostline_planner::plan(&settings, &PlanningProgress::new(output))?.plan;
    let learning_rate = plan.learning_rates(&model::read_config(&settings.model)?);
    Ok(Candidate { name: Strategy::Salf.to_string(), tensors: plan.tensors, learning_rate })
}
