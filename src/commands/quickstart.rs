//! `frostline quickstart`: the whole path on a small model that comes with the project.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::anyhow;
use frostline_planner::EngineChoice;
use frostline_runtime::evaluate::Evaluation;
use frostline_runtime::job::{Files, Finished, Job, Layers};
use frostline_runtime::train::Settings;
use frostline_schemas::device::Device;
use frostline_schemas::plan::{Aggregate, Gain, Plan};
use frostline_schemas::run::{Method, Order, Schedule, TrainingSettings};
use serde_json::{Value as Json, json};

use super::eval;
use super::plan::Drawn;
use super::train::Watch;
use crate::arguments::QuickstartArguments;
use crate::output::Output;
use crate::show;

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
const BATCH: usize = 16;
const STEPS: u64 = 150;
const LEARNING_RATE: f64 = 3e-3;

pub fn run(arguments: &QuickstartArguments, output: &Output) -> anyhow::Result<()> {
    let temporary =
        tempfile::tempdir().map_err(|error| anyhow!("no temporary folder: {error}; name one with --out"))?;
    let folder = arguments.out.as_deref().unwrap_or(temporary.path());
    unpack(folder).map_err(|error| anyhow!("{}: {error}", folder.display()))?;
    let begun = Instant::now();
    let plan = frostline_planner::plan(&plan_settings(folder), &Drawn::new(output))?;
    let planning = begun.elapsed().as_secs_f64();
    plan.write(&folder.join("plan.json"))?;

    let layers = plan.model.layers;
    let rows = vec![
        train_one("all layers", Layers::Above(0), folder, output)?,
        train_one("the plan", Layers::Planned(&plan), folder, output)?,
        train_one("the last layer", Layers::Above(layers - 1), folder, output)?,
    ];
    let summary = json!({
        "plan": plan.id,
        "frost_line": plan.decision.frost_line,
        "planning_seconds": planning,
        "ways": rows.iter().map(Row::to_json).collect::<Vec<Json>>(),
    });
    let text = render(&plan, planning, &rows, arguments.out.as_deref())?;
    output.result(&summary, || text)
}

fn unpack(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder.join("model"))?;
    for (name, content) in FILES {
        let path = folder.join(name);
        frostline_schemas::files::write_bytes(&path, content)?;
    }
    Ok(())
}

fn plan_settings(folder: &Path) -> frostline_planner::Settings {
    frostline_planner::Settings {
        model: folder.join("model"),
        onnx: None,
        data: folder.join("train.jsonl"),
        engine: EngineChoice::Tract,
        threads: None,
        examples: 128,
        seed: 0,
        max_length: MAX_LENGTH,
        gain: Gain::PowerLaw,
        aggregate: Aggregate::Median,
        min_trainable_layers: 1,
        budget: None,
        latent_spaces: None,
        cache: None,
    }
}

/// What one way of training gave.
struct Row {
    name: &'static str,
    last_loss: f64,
    finished: Finished,
    evaluation: Evaluation,
}

fn train_one(name: &'static str, layers: Layers, folder: &Path, output: &Output) -> anyhow::Result<Row> {
    let files = Files {
        model: folder.join("model"),
        data: folder.join("train.jsonl"),
        eval: Some(folder.join("test.jsonl")),
        max_length: MAX_LENGTH,
    };
    let mut watch = Watch::new(output);
    let mut finished = Job::open(&files)?.run(layers, &training(), &mut watch)?;
    let evaluation = finished.evaluation.take().ok_or_else(|| anyhow!("nothing was evaluated"))?;
    Ok(Row { name, last_loss: watch.last_loss(), finished, evaluation })
}

fn training() -> Settings {
    Settings {
        training: TrainingSettings {
            method: Method::Full,
            steps: STEPS,
            batch_size: BATCH,
            accumulation: 1,
            learning_rate: LEARNING_RATE,
            schedule: Schedule::Linear,
            warmup_steps: 10,
            weight_decay: 0.0,
            gradient_clip: Some(1.0),
            max_length: MAX_LENGTH,
            order: Order::Shuffle,
            seed: 0,
        },
        device: Device::Cpu,
        precision: None,
        recompute: false,
        cache: None,
        threads: None,
    }
}

impl Row {
    fn accuracy(&self) -> Option<f64> {
        self.evaluation.ranking.as_ref().map(|ranking| ranking.accuracy)
    }

    fn to_json(&self) -> Json {
        json!({
            "way": self.name,
            "frost_line": self.finished.frost_line,
            "trained_parameters": self.finished.trained_parameters,
            "seconds": self.finished.seconds,
            "last_loss": self.last_loss,
            "evaluation": eval::to_json(&self.evaluation),
        })
    }
}

fn render(plan: &Plan, planning: f64, rows: &[Row], kept: Option<&Path>) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    writeln!(
        out,
        "planned on {} examples in {planning:.1} s: frost line {} of {} layers\n",
        plan.data.examples, plan.decision.frost_line, plan.model.layers
    )?;
    writeln!(
        out,
        "{:<15} {:>10} {:>8} {:>8} {:>10} {:>10}",
        "trained", "parameters", "seconds", "loss", "test loss", "accuracy"
    )?;
    for row in rows {
        let accuracy = row.accuracy().map_or_else(|| "-".into(), |share| format!("{:.1} %", 100.0 * share));
        writeln!(
            out,
            "{:<15} {:>10} {:>8.1} {:>8.4} {:>10.4} {:>10}",
            row.name,
            show::count(row.finished.trained_parameters as f64),
            row.finished.seconds,
            row.last_loss,
            row.evaluation.loss,
            accuracy
        )?;
    }
    if let Some(folder) = kept {
        let plan = folder.join("plan.json");
        writeln!(out, "\nmodel, data and plan are in {}; next: frostline show {}", folder.display(), plan.display())?;
    }
    Ok(out)
}
