//! Plans by gradients, or records them beside what decided.

use frostline_planner::{PlanSettings, Planned};
use frostline_runtime::card::{self, CardSettings};
use frostline_schemas::model::ModelFolder;
use frostline_schemas::plan::PlanTask;

use crate::output::Output;
use crate::progress::Bar;

/// The plan of the layers that promise most within a share of a full step, or within the budget, where that is less.
pub(super) fn plan(
    settings: &PlanSettings,
    share: f64,
    computing: &CardSettings,
    output: &Output,
) -> anyhow::Result<Planned> {
    settings.check()?;
    let (bar, task) = (Bar::new(output, "reading model and examples"), read(settings, computing)?);
    let share = settings.budget.map_or(share, |budget| budget.min(share));
    let plan = card::plan(task, share, computing, &mut |done, all| show(&bar, done, all))?;
    Ok(Planned { plan, example_frost_lines: None })
}

/// The same plan with the gradient card beside what decided it.
pub(super) fn record(
    planned: Planned,
    settings: &PlanSettings,
    computing: &CardSettings,
    output: &Output,
) -> anyhow::Result<Planned> {
    let bar = Bar::new(output, "reading model and examples");
    let PlanTask { folder, examples, .. } = read(settings, computing)?;
    let card = card::card(folder, &examples, computing, &mut |done, all| show(&bar, done, all))?;
    Ok(Planned { plan: planned.plan.with_gradients(card), ..planned })
}

/// The examples that gradients are computed of.
fn read(settings: &PlanSettings, computing: &CardSettings) -> anyhow::Result<PlanTask> {
    let PlanSettings { model, data, rows, examples, seed, .. } = settings;
    let examples = examples.map_or(computing.examples(), |most| most.min(computing.examples()));
    Ok(PlanTask::read(ModelFolder::open(model)?, data, rows, examples, *seed)?)
}

fn show(bar: &Bar, done: usize, all: usize) {
    bar.go_on("computing gradients", done as u64, all as u64, "batches");
}
