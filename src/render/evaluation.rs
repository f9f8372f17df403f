//! An evaluation.

use std::fmt::Write;

use frostline_runtime::evaluate::Evaluation;
use serde_json::{Value as Json, json};

use crate::render::units::plural;

/// For machines.
pub(crate) fn to_json(evaluation: &Evaluation) -> Json {
    json!({
        "examples": evaluation.examples,
        "targets": evaluation.targets,
        "loss": evaluation.loss,
        "perplexity": evaluation.perplexity(),
        "ranking": evaluation.ranking.as_ref().map(|ranking| json!({
            "candidates": ranking.candidates,
            "accuracy": ranking.accuracy,
            "macro_f1": ranking.macro_f1,
        })),
    })
}

/// For people.
pub(crate) fn to_text(evaluation: &Evaluation) -> String {
    let mut text = format!(
        "{}, {}: loss {:.4}, perplexity {:.3}\n",
        plural(evaluation.examples, "example"),
        plural(evaluation.targets, "target"),
        evaluation.loss,
        evaluation.perplexity()
    );
    if let Some(ranking) = &evaluation.ranking {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "ranking {} completions: accuracy {:.1} %, macro-F1 {:.1} %",
            ranking.candidates,
            100.0 * ranking.accuracy,
            100.0 * ranking.macro_f1
        );
    }
    text
}
