//! Trainings by several plans, side by side.

use std::fmt::Write;

use frostline_runtime::compare::ComparisonRow;
use serde_json::{Value as Json, json};

use crate::render::evaluation;
use crate::render::units::count;

/// One table of all rows; costs are over that of training all layers, and measured where a row does that.
pub(crate) fn render(rows: &[ComparisonRow]) -> Result<String, std::fmt::Error> {
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
            or_dash(row.predicted),
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
pub(crate) fn to_json(rows: &[ComparisonRow]) -> Vec<Json> {
    let row = |row: &ComparisonRow| {
        json!({
            "trained": row.name,
            "frost_line": row.frost_line,
            "trained_parameters": row.trained_parameters,
            "predicted_share": row.predicted,
            "measured_share": row.measured(rows),
            "step_seconds": row.step_seconds,
            "seconds": row.seconds,
            "last_loss": row.last_loss,
            "evaluation": evaluation::to_json(&row.evaluation),
        })
    };
    rows.iter().map(row).collect()
}
