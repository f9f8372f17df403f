//! `frostline quickstart`: the whole path on a small model that comes with the project.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::anyhow;
use frostline_planner::{Planned, Silent, Strategy};
use frostline_runtime::card::CardSettings;
use frostline_runtime::compare::ComparisonRow;
use frostline_runtime::probe::{Aim, Horizon, ProbeSettings};
use frostline_runtime::run::{Job, JobFiles};
use frostline_runtime::train::TrainSettings;
use frostline_schemas::data::RowSettings;
use frostline_schemas::plan::{Plan, Probes};
use frostline_schemas::run::TrainingSettings;
use serde_json::json;

use super::planning;
use crate::arguments::{Evidence, LogEvery, QuickstartArguments};
use crate::output::Output;
use crate::progress::TrainingProgress;
use crate::render::command_line::{command_line, path};
use crate::render::comparison;

/// The model, its export and the task: made by `examples/quickstart/make.py`, and part of this program so that it runs
/// wherever it is installed.
const FILES: [(&str, &[u8]); 7] = [
    ("model/config.json", include_bytes!("../../examples/quickstart/config.json")),
    ("model/model.safetensors", include_bytes!("../../examples/quickstart/model.safetensors")),
    ("model/model.onnx", include_bytes!("../../examples/quickstart/model.onnx")),
    ("model/tokenizer.json", include_bytes!("../../examples/quickstart/tokenizer.json")),
    ("model/tokenizer_config.json", include_bytes!("../../examples/quickstart/tokenizer_config.json")),
    ("train.jsonl", include_bytes!("../../examples/quickstart/train.jsonl")),
    ("test.jsonl", include_bytes!("../../examples/quickstart/test.jsonl")),
];
const MAX_LENGTH: usize = 64;
const STEPS: u64 = 200;
/// What probes may cost, as a share of full training: more than usual, as they are too short to tell anything else.
const PROBE_SHARE: f64 = 0.8;
/// Of accuracy, what the plan may lose: so small a model has no layer to spare.
const TOLERANCE: f64 = 0.03;

pub(crate) fn run(arguments: &QuickstartArguments, output: &Output) -> anyhow::Result<()> {
    let temporary =
        tempfile::tempdir().map_err(|error| anyhow!("no temporary folder: {error}; name one with --out"))?;
    let folder = arguments.out.as_deref().unwrap_or(temporary.path());
    unpack(folder).map_err(|error| anyhow!("{}: {error}", folder.display()))?;
    let begun = Instant::now();
    let (Planned { plan, .. }, _) = planning::plan(&plan_settings(folder, Strategy::Probe), &evidence(), output)?;
    let planning = begun.elapsed().as_secs_f64();
    plan.write(&folder.join("plan.json"))?;

    let all = frostline_planner::plan(&plan_settings(folder, Strategy::All), &Silent)?.plan;
    let of_all = plan.probes.as_ref().and_then(Probes::full).map(|arm| arm.expected.learning_rate);
    let ways = [("all layers", all, of_all), ("the plan", plan.clone(), None)];
    let files = JobFiles {
        model: folder.join("model"),
        data: folder.join("train.jsonl"),
        eval: Some(folder.join("test.jsonl")),
        rows: RowSettings::up_to(MAX_LENGTH),
    };
    let rows = train_each(ways, &files, output)?;
    let summary = json!({
        "plan": plan.id,
        "frost_line": plan.decision.frost_line,
        "learning_rate": plan.learning_rate,
        "planning_seconds": planning,
        "ways": comparison::to_json(&rows),
    });
    let text = render(&plan, planning, &rows, arguments.out.as_deref())?;
    output.result(&summary, || text)
}

/// Trains by each plan in turn, at a rate of its own where there is one; the files are read anew for each, so that none
/// stands in memory beside another's training.
fn train_each<const N: usize>(
    ways: [(&str, Plan, Option<f64>); N],
    files: &JobFiles,
    output: &Output,
) -> anyhow::Result<Vec<ComparisonRow>> {
    let train = |(name, plan, rate): (&str, Plan, Option<f64>)| {
        let mut progress = TrainingProgress::new(output, LogEvery::Auto);
        let job = Job::open(files)?;
        let learning_rate = rate.unwrap_or(plan.learning_rates(job.config()).full);
        let settings = training(learning_rate);
        progress.load();
        let row = ComparisonRow::train(name, &plan, job, &settings, &mut progress)?;
        progress.finish();
        Ok(row)
    };
    ways.into_iter().map(train).collect()
}

fn unpack(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder.join("model"))?;
    for (name, content) in FILES {
        let path = folder.join(name);
        frostline_schemas::files::write_bytes(&path, content)?;
    }
    Ok(())
}

fn plan_settings(folder: &Path, strategy: Strategy) -> frostline_planner::PlanSettings {
    frostline_planner::PlanSettings {
        strategy,
        examples: Some(128),
        rows: RowSettings::up_to(MAX_LENGTH),
        ..frostline_planner::PlanSettings::new(folder.join("model"), folder.join("train.jsonl"))
    }
}

fn training(learning_rate: f64) -> TrainSettings {
    TrainSettings::new(TrainingSettings { learning_rate, max_length: MAX_LENGTH, ..TrainingSettings::of_steps(STEPS) })
}

fn evidence() -> Evidence {
    Evidence {
        traces: None,
        gradients: CardSettings::DEFAULT,
        records_gradients: false,
        probes: ProbeSettings {
            horizon: Horizon::Steps(STEPS),
            share: PROBE_SHARE,
            aim: Aim::Cheapest { tolerance: Some(TOLERANCE) },
            training: training(0.0),
        },
    }
}

fn render(plan: &Plan, planning: f64, rows: &[ComparisonRow], kept: Option<&Path>) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    writeln!(
        out,
        "planned by probes in {planning:.1} s, for at most {:.0} points of accuracy less: frost line {} of {} layers\n",
        100.0 * TOLERANCE,
        plan.decision.frost_line,
        plan.model.layers
    )?;
    out += &comparison::render(rows)?;
    out += "\n";
    match kept {
        Some(folder) => {
            let (model, plan) = (path(folder, "model"), path(folder, "plan.json"));
            let (data, eval, run) = (path(folder, "train.jsonl"), path(folder, "test.jsonl"), path(folder, "run"));
            let (steps, length) = (STEPS.to_string(), MAX_LENGTH.to_string());
            let train = ["train", "--model", &model, "--plan", &plan, "--data", &data, "--eval", &eval];
            let how = ["--steps", &steps, "--max-length", &length, "--out", &run];
            writeln!(out, "model, data and plan are in {}; next:", folder.display())?;
            writeln!(out, "  {}", command_line(&["show", &plan]))?;
            writeln!(out, "  {}", command_line(&[&train[..], &how].concat()))?;
        }
        None => writeln!(out, "nothing was kept; next: {}", command_line(&["quickstart", "--out", "quickstart"]))?,
    }
    Ok(out)
}
