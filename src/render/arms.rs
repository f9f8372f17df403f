//! A comparison: one table of all arms, and which of them differ.

use frostline_runtime::compare::{ArmResult, Budget, Edge, Measure, ResultsOrigin, Spread, TrainedArm, Verdict};
use serde_json::{Value as Json, json};

use crate::render::evaluation;
use crate::render::units::{bytes, count, plural};

/// For people.
pub(crate) fn render(arms: &[ArmResult], origin: &ResultsOrigin, verdict: Option<&Verdict>) -> String {
    let widest = arms.iter().map(|arm| arm.name.chars().count()).max().unwrap_or(0).max(14);
    let heading = format!(
        "{:<widest$} {:>10} {:>8} {:>7} {:>9} {:>9} {:>9} {:>14} {:>9}\n",
        "trained", "parameters", "rate", "steps", "time", "held out", "test loss", "accuracy", "memory"
    );
    let mut text = setting(origin) + "\n" + &heading;
    for arm in arms {
        text += &row(arm, widest);
    }
    let overfitted: String = arms.iter().filter_map(overfitting).collect();
    if !overfitted.is_empty() {
        text += &format!("\n{overfitted}");
    }
    let rate_at_edge = arms.iter().any(|arm| arm.edge().is_some());
    if rate_at_edge {
        text += "\n≤, ≥: the best rate is the smallest or largest that was tried; a further one may be better\n";
    }
    text + "\n" + &verdict.map_or_else(|| "all trainings diverged\n".into(), |verdict| judged(arms, verdict))
}

/// What all arms have in common.
fn setting(origin: &ResultsOrigin) -> String {
    let each = match origin.budget {
        Budget::Steps(steps) => plural(steps, "step"),
        Budget::Seconds(seconds) => format!("{seconds} s"),
    };
    format!(
        "{each} for each training, {} a step; rates chosen by the loss on {} held back of {}; {} at the best rate\n",
        plural(origin.training.batch_size, "row"),
        plural(origin.data.held_out_rows, "row"),
        origin.data.held_out_rows.saturating_add(origin.data.trained_rows),
        plural(origin.seeds, "seed")
    )
}

/// A line on an arm whose end is worse than a point before it, by the first seed of which that is so.
fn overfitting(arm: &ArmResult) -> Option<String> {
    let (best, steps) = arm.at_best().find_map(|run| Some((run.overfitted_from()?.step, run.steps)))?;
    Some(format!(
        "* {}: the loss on rows held back was least at step {best} of {steps}: a longer training overfits\n",
        arm.name
    ))
}

fn row(arm: &ArmResult, widest: usize) -> String {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let mean = |number: &dyn Fn(&TrainedArm) -> f64| {
        Spread::of(&arm.at_best().map(number).collect::<Vec<f64>>()).map(|spread| spread.mean)
    };
    let loss = |measure| or_dash(arm.spread(measure).map(|loss| format!("{:.4}", loss.mean)));
    let mark = if overfitting(arm).is_some() { "* " } else { "" };
    let rate = arm.best.map(|rate| match arm.edge() {
        Some(Edge::Smallest) => format!("≤ {rate:e}"),
        Some(Edge::Largest) => format!("≥ {rate:e}"),
        None => format!("{rate:e}"),
    });
    let accuracy = arm.spread(Measure::Accuracy).map(|Spread { mean, deviation, .. }| match deviation {
        Some(deviation) => format!("{:.1} ± {:.1} %", 100.0 * mean, 100.0 * deviation),
        None => format!("{:.1} %", 100.0 * mean),
    });
    let memory = arm.at_best().filter_map(|run| run.peak_bytes).max();
    format!(
        "{:<widest$} {:>10} {:>8} {:>7} {:>9} {:>9} {:>9} {:>14} {:>9}\n",
        arm.name,
        count(arm.trained_parameters as f64),
        rate.unwrap_or_else(|| "diverged".into()),
        or_dash(mean(&|run| run.steps as f64).map(|steps| format!("{steps:.0}"))),
        or_dash(mean(&|run| run.seconds).map(|seconds| format!("{seconds:.1} s"))),
        format!("{mark}{}", loss(Measure::HeldOutLoss)),
        loss(Measure::Loss),
        or_dash(accuracy),
        or_dash(memory.map(bytes))
    )
}

/// Which arm is best, and which may be as good.
fn judged(arms: &[ArmResult], verdict: &Verdict) -> String {
    let names = |indices: &[usize]| {
        let names: Vec<&str> = indices.iter().filter_map(|&arm| arms.get(arm)).map(|arm| arm.name.as_str()).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    };
    let mut text = format!("best by {}: {}\n", measure(verdict.measure), names(&[verdict.best]));
    if arms.len() < 2 {
        return text;
    }
    match &verdict.noise {
        Some(_) => {
            text += &format!("cannot be told from it: {}\n", names(&verdict.alike));
            text += &format!("worse by more than the noise: {}\n", names(&verdict.worse));
        }
        None => text += "whether others differ from it by more than the noise cannot be said of one seed\n",
    }
    text
}

fn measure(measure: Measure) -> &'static str {
    match measure {
        Measure::Accuracy => "accuracy",
        Measure::Loss => "test loss",
        Measure::HeldOutLoss => "loss on rows held back",
    }
}

/// For machines: every training with its curve.
pub(crate) fn to_json(arms: &[ArmResult], origin: &ResultsOrigin, verdict: Option<&Verdict>) -> Json {
    let (steps, seconds) = match origin.budget {
        Budget::Steps(steps) => (Some(steps), None),
        Budget::Seconds(seconds) => (None, Some(seconds)),
    };
    let names = |indices: &[usize]| -> Vec<&str> {
        indices.iter().filter_map(|&arm| arms.get(arm)).map(|arm| arm.name.as_str()).collect()
    };
    json!({
        "steps": steps,
        "seconds": seconds,
        "batch_size": origin.training.batch_size,
        "rows": origin.data.trained_rows,
        "held_out_rows": origin.data.held_out_rows,
        "arms": arms.iter().map(arm_json).collect::<Vec<Json>>(),
        "verdict": verdict.map(|verdict| json!({
            "measure": measure(verdict.measure),
            "best": names(&[verdict.best]).first(),
            "noise": verdict.noise.as_ref().and_then(|noise| noise.iter().copied().reduce(f64::max)),
            "cannot_be_told_from_it": names(&verdict.alike),
            "worse": names(&verdict.worse),
        })),
    })
}

fn arm_json(arm: &ArmResult) -> Json {
    let spread = |measure| {
        arm.spread(measure)
            .map(|Spread { mean, deviation, seeds }| json!({"mean": mean, "deviation": deviation, "seeds": seeds}))
    };
    json!({
        "trained": arm.name,
        "plan": arm.plan,
        "frost_line": arm.frost_line,
        "trained_parameters": arm.trained_parameters,
        "predicted_share": arm.predicted,
        "best_rate": arm.best,
        "best_rate_at_edge": arm.edge().map(|edge| match edge {
            Edge::Smallest => "smallest",
            Edge::Largest => "largest",
        }),
        "held_out_loss": spread(Measure::HeldOutLoss),
        "test_loss": spread(Measure::Loss),
        "accuracy": spread(Measure::Accuracy),
        "trainings": arm.trainings.iter().map(training_json).collect::<Vec<Json>>(),
    })
}

fn training_json(run: &TrainedArm) -> Json {
    let point = |point: &frostline_runtime::compare::Point| {
        json!({
            "step": point.step,
            "seconds": point.seconds,
            "loss": point.loss,
            "held_out_loss": point.held_out_loss,
        })
    };
    json!({
        "learning_rate": run.learning_rate,
        "seed": run.seed,
        "steps": run.steps,
        "seconds": run.seconds,
        "filling_seconds": run.filling_seconds,
        "held_out_loss": run.held_out_loss,
        "best_point": run.best_point().map(point),
        "peak_bytes": run.peak_bytes,
        "evaluation": run.evaluation.as_ref().map(evaluation::to_json),
        "curve": run.curve.iter().map(point).collect::<Vec<Json>>(),
    })
}
