//! `frostline compare`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use frostline_planner::Strategy;
use frostline_runtime::run::job::Files;
use frostline_runtime::train::TrainSettings;
use frostline_schemas::plan::Plan;
use frostline_schemas::run::TrainingSettings;
use serde_json::json;

use super::plan::{Drawn, engine};
use crate::arguments::CompareArguments;
use crate::output::Output;
use crate::render::comparison;

pub fn run(arguments: &CompareArguments, output: &Output) -> anyhow::Result<()> {
    let paths = plan_paths(arguments)?;
    let files = Files {
        model: arguments.model.clone(),
        data: arguments.data.clone(),
        eval: Some(arguments.eval.clone()),
        max_length: arguments.max_length,
    };
    // What is wrong with the rows is said before anything is planned.
    files.check()?;
    let mut plans = Vec::new();
    for strategy in &arguments.strategies {
        let plan = frostline_planner::plan(&planning(arguments, strategy)?, &Drawn::new(output))?.plan;
        plans.push((strategy.to_string(), plan));
    }
    for (path, (_, plan)) in paths.iter().zip(&plans) {
        plan.write(path)?;
    }
    let rows = comparison::train_all(&plans, &files, &training(arguments), output)?;
    let ids = |(name, plan): &(String, Plan)| json!({"strategy": name, "id": plan.id});
    let summary = json!({
        "steps": arguments.steps,
        "plans": plans.iter().map(ids).collect::<Vec<_>>(),
        "rows": comparison::to_json(&rows),
    });
    let table = comparison::render(&rows)?;
    output.result(&summary, || {
        let heading = format!(
            "{} steps of {} rows each; predicted and measured: a step over one that trains all layers{}\n\n",
            arguments.steps,
            arguments.batch_size,
            if arguments.strategies.contains(&Strategy::All) { "" } else { " (add `all` to measure it)" }
        );
        heading + &table
    })
}

/// Where plans are written, if they are; what would be in the way is found before anything is computed.
fn plan_paths(arguments: &CompareArguments) -> anyhow::Result<Vec<PathBuf>> {
    for (place, strategy) in arguments.strategies.iter().enumerate() {
        if arguments.strategies[..place].contains(strategy) {
            bail!("--strategies: {strategy} is there twice");
        }
    }
    let Some(folder) = &arguments.plans else { return Ok(Vec::new()) };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{}: cannot be made a folder for plans", folder.display()))?;
    let paths = (1..=arguments.strategies.len()).zip(&arguments.strategies);
    paths.map(|(number, strategy)| free(folder.join(file_name(number, strategy)))).collect()
}

/// `2-last-7.json`: patterns hold characters that are none of a file's name.
fn file_name(number: usize, strategy: &Strategy) -> String {
    let text = match strategy {
        Strategy::Manual(_) => "manual".into(),
        other => other.to_string().replace(':', "-"),
    };
    format!("{number}-{text}.json")
}

fn free(path: PathBuf) -> anyhow::Result<PathBuf> {
    super::plan::refuse_to_write_over(&path).map(|()| path)
}

fn planning(arguments: &CompareArguments, strategy: &Strategy) -> anyhow::Result<frostline_planner::PlanSettings> {
    Ok(frostline_planner::PlanSettings {
        onnx: arguments.engine.onnx.clone(),
        strategy: strategy.clone(),
        engine: engine(&arguments.engine, arguments.compute.device)?,
        threads: arguments.compute.threads,
        examples: arguments.examples,
        seed: arguments.seed,
        max_length: arguments.max_length,
        cache: super::plan::cache_root(&arguments.cache),
        ..frostline_planner::PlanSettings::new(arguments.model.clone(), arguments.data.clone())
    })
}

/// What `frostline train` does where nothing is said, without a cache of states: the strategies' steps shall cost what
/// they cost.
fn training(arguments: &CompareArguments) -> TrainSettings {
    let training = TrainingSettings {
        batch_size: arguments.batch_size,
        learning_rate: arguments.learning_rate,
        max_length: arguments.max_length,
        seed: arguments.seed,
        ..TrainingSettings::of_steps(arguments.steps)
    };
    TrainSettings {
        device: arguments.compute.device,
        threads: arguments.compute.threads,
        ..TrainSettings::new(training)
    }
}
