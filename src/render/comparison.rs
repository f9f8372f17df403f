//! Trains by several plans from the same start, on the same batches, and sets what they gave side by side.

use std::fmt::Write;

use anyhow::anyhow;
use frostline_runtime::evaluate::Evaluation;
use frostline_runtime::run::job::{Files, Finished, Job};
use frostline_runtime::train::TrainSettings;
use frostline_schemas::plan::Plan;
use serde_json::{Value as Json, json};

use crate::arguments::LogEvery;
use crate::output::Output;
use crate::progress::TrainingProgress;
use crate::render::evaluation;
use crate::render::units::count;

/// What training by one plan gave.
pub struct Row {
    name: String,
    frost_line: usize,
    trained_parameters: u64,
    /// FLOPs of a step over those of a step that trains all layers, as the plan says.
    predicted: f64,
    seconds: f64,
    step_seconds: f64,
    last_loss: f64,
    evaluation: Evaluation,
}

/// Trains by each plan in turn; the files are read anew for each, so that none stands in memory beside another's training.
pub fn train_all(
    plans: &[(String, Plan)],
    files: &Files,
    settings: &TrainSettings,
    output: &Output,
) -> anyhow::Result<Vec<Row>> {
    plans.iter().map(|(name, plan)| train(name, plan, files, settings, output)).collect()
}

fn train(name: &str, plan: &Plan, files: &Files, settings: &TrainSettings, output: &Output) -> anyhow::Result<Row> {
    let mut progress = TrainingProgress::new(output, LogEvery::Auto);
    let job = Job::open(files)?;
    progress.load();
    let Finished { frost_line, trained_parameters, seconds, evaluation, .. } =
        job.run(plan, settings, &mut progress)?;
    let seen = progress.finish();
    Ok(Row {
        name: name.to_owned(),
        frost_line,
        trained_parameters,
        predicted: plan.planned_cost().map_or(f64::NAN, |cost| cost.share),
        seconds,
        step_seconds: seen.median_step_seconds(),
        last_loss: seen.last_loss(),
        evaluation: evaluation.ok_or_else(|| anyhow!("nothing was evaluated"))?,
    })
}

/// One table of all rows; costs are over that of training all layers, and measured where a row does that.
pub fn render(rows: &[Row]) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let widest = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(14);
    writeln!(
        out,
        "{:<widest$} {:>10} {:>9} {:>8} {:>8} {:>7} {:>9} {:>8}",
        "trained", "parameters", "predicted", "measured", "a step", "loss", "test loss", "accuracy"
    )?;
    for row in rows {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let or_dash = |share: Option<f64>| share.map_or_else(|| "-".into(), percent);
        writeln!(
            out,
            "{:<widest$} {:>10} {:>9} {:>8} {:>6.3} s {:>7.4} {:>9.4} {:>8}",
            row.name,
            count(row.trained_parameters as f64),
            percent(row.predicted),
            or_dash(row.measured(rows)),
            row.step_seconds,
            row.last_loss,
            row.evaluation.loss,
            or_dash(row.accuracy())
        )?;
    }
    Ok(out)
}

/// The rows as JSON.
pub fn to_json(rows: &[Row]) -> Vec<Json> {
    rows.iter().map(|row| row.to_json(rows)).collect()
}

impl Row {
    fn accuracy(&self) -> Option<f64> {
        self.evaluation.ranking.as_ref().map(|ranking| ranking.accuracy)
    }

    /// The time of a step over that of the row that trains all layers; `None` without such a row.
    fn measured(&self, rows: &[Row]) -> Option<f64> {
        let full = rows.iter().find(|row| row.predicted == 1.0)?;
        Some(self.step_seconds / full.step_seconds)
    }

    fn to_json(&self, rows: &[Row]) -> Json {
        json!({
            "trained": self.name,
            "frost_line": self.frost_line,
            "trained_parameters": self.trained_parameters,
            "predicted_share": self.predicted,
            "measured_share": self.measured(rows),
            "step_seconds": self.step_seconds,
            "seconds": self.seconds,
            "last_loss": self.last_loss,
            "evaluation": evaluation::to_json(&self.evaluation),
        })
    }
}
