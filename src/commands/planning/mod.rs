//! Makes plans, by whichever crate has the evidence that a strategy asks for.

#[cfg(feature = "train")]
mod gradients;
#[cfg(feature = "train")]
mod probe;

use std::collections::BTreeMap;

#[cfg(feature = "train")]
use frostline_planner::Strategy;
use frostline_planner::{PlanSettings, Planned};

use crate::arguments::Evidence;
use crate::output::Output;
use crate::progress::PlanningProgress;

/// A plan, and what steps of running the model took, in seconds by their names.
type Timed = (Planned, BTreeMap<&'static str, f64>);

/// Plans by the strategy of the settings.
pub(super) fn plan(settings: &PlanSettings, evidence: &Evidence, output: &Output) -> anyhow::Result<Timed> {
    #[cfg(feature = "train")]
    if let Some(planned) = by_training(settings, evidence, output)? {
        return Ok((planned, BTreeMap::new()));
    }
    let progress = PlanningProgress::new(output);
    let planned = match &evidence.traces {
        Some(files) => frostline_planner::plan_from_traces(settings, files, &progress)?,
        None => frostline_planner::plan(settings, &progress)?,
    };
    let steps = progress.finish();
    #[cfg(feature = "train")]
    if evidence.records_gradients {
        return Ok((gradients::record(planned, settings, &evidence.gradients, output)?, steps));
    }
    Ok((planned, steps))
}

/// The plan of a strategy whose evidence the runtime has; `None` for the others.
#[cfg(feature = "train")]
fn by_training(settings: &PlanSettings, evidence: &Evidence, output: &Output) -> anyhow::Result<Option<Planned>> {
    if evidence.traces.is_some() {
        // Of traces a plan is made by SALF alone, which the planner checks.
        return Ok(None);
    }
    let planned = match settings.strategy {
        Strategy::Gradient(share) => gradients::plan(settings, share, &evidence.gradients, output)?,
        Strategy::Probe => {
            let planned = probe::plan(settings, &evidence.probes, output)?;
            match planned.plan.gradients {
                None if evidence.records_gradients => {
                    gradients::record(planned, settings, &evidence.gradients, output)?
                }
                _ => planned,
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(planned))
}
