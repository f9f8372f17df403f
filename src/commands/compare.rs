//! `frostline compare`.

use frostline_planner::Strategy;
use frostline_runtime::compare::ComparisonRow;
use frostline_runtime::run::{Job, JobFiles};
use frostline_runtime::train::TrainSettings;
use frostline_schemas::plan::{self, Plan};
use serde_json::json;

use crate::arguments::{CompareArguments, LogEvery};
use crate::output::Output;
use crate::progress::{PlanningProgress, TrainingProgress};
use crate::render::comparison;
use crate::render::units::plural;

pub(crate) fn run(arguments: &CompareArguments, output: &Output) -> anyhow::Result<()> {
    let strategies = arguments.strategies()?;
    // What would be in a plan's way is found before anything is computed.
    let paths = arguments.plans().map(|folder| plan::places_in(folder, strategies)).transpose()?;
    let files = arguments.files();
    // What is wrong with the rows is said before anything is planned.
    files.check()?;
    let mut plans = Vec::new();
    for strategy in strategies {
        let plan = frostline_planner::plan(&arguments.planning(strategy)?, &PlanningProgress::new(output))?.plan;
        plans.push((strategy.to_string(), plan));
    }
    for (path, (_, plan)) in paths.iter().flatten().zip(&plans) {
        plan.write(path)?;
    }
    let settings = arguments.training();
    let rows = train_each(&plans, &files, &settings, output)?;
    let ids = |(name, plan): &(String, Plan)| json!({"strategy": name, "id": plan.id});
    let summary = json!({
        "steps": settings.training.steps,
        "plans": plans.iter().map(ids).collect::<Vec<_>>(),
        "rows": comparison::to_json(&rows),
    });
    let table = comparison::render(&rows)?;
    output.result(&summary, || {
        let heading = format!(
            "{} of {} each; predicted and measured: a step over one that trains all layers{}\n\n",
            plural(settings.training.steps, "step"),
            plural(settings.training.batch_size, "row"),
            if strategies.contains(&Strategy::All) { "" } else { " (add `all` to measure it)" }
        );
        heading + &table
    })
}

/// Trains by each plan in turn; the files are read anew for each, so that none stands in memory beside another's training.
pub(crate) fn train_each(
    plans: &[(String, Plan)],
    files: &JobFiles,
    settings: &TrainSettings,
    output: &Output,
) -> anyhow::Result<Vec<ComparisonRow>> {
    let train = |(name, plan): &(String, Plan)| {
        let mut progress = TrainingProgress::new(output, LogEvery::Auto);
        let job = Job::open(files)?;
        progress.load();
        let row = ComparisonRow::train(name, plan, job, settings, &mut progress)?;
        progress.finish();
        Ok(row)
    };
    plans.iter().map(train).collect()
}
