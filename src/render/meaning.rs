//! What a plan means for whoever trains with it, in three lines.

use std::fmt::{self, Write};
use std::time::Duration;

use frostline_schemas::plan::{Expected, Plan, ProbeVerdict, Probes};
use frostline_schemas::select::Cost;

use super::units::{bytes, count, duration, plural};

/// What is trained, what it costs against full training, what to expect of it.
pub(crate) fn meaning(out: &mut String, plan: &Plan) -> fmt::Result {
    writeln!(out, "\ntrains   {}", trained(plan))?;
    writeln!(out, "costs    {}", cost(plan))?;
    writeln!(out, "expect   {}", quality(plan))
}

fn trained(plan: &Plan) -> String {
    let all = plan.cost.at(0).map_or(0, |cost| cost.trained_parameters);
    let own = plan.trained_parameters();
    format!(
        "{} of {}: {} parameters, {:.0} % of those of all layers",
        plural(plan.tensors.len(), "tensor"),
        plural(plan.model.layers, "layer"),
        count(own as f64),
        100.0 * own as f64 / all.max(1) as f64
    )
}

/// Seconds of the probes where there are any, else shares of FLOPs; and the memory of the table of costs.
fn cost(plan: &Plan) -> String {
    let Some((own, full)) = plan.planned_cost().zip(plan.cost.at(0)) else { return "not known".into() };
    let time = |seconds: f64| duration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    match measured(plan) {
        Some((expected, of_full)) => format!(
            "{} for {}, {}; all layers: {}, {}",
            time(expected.seconds),
            plural(expected.steps, "step"),
            bytes(memory(own)),
            time(of_full.seconds),
            bytes(memory(full))
        ),
        None => format!(
            "{:.0} % of a full step (cached {:.0} %), {}; all layers: {}",
            100.0 * own.share,
            100.0 * own.cached_share,
            bytes(memory(own)),
            bytes(memory(full))
        ),
    }
}

/// Bytes of weights, gradients, optimiser and activations, all in f32.
fn memory(cost: &Cost) -> u64 {
    let parts = [cost.weight_bytes, cost.gradient_bytes, cost.optimizer_bytes, cost.activation_bytes];
    parts.into_iter().fold(0, u64::saturating_add)
}

fn quality(plan: &Plan) -> String {
    let (Some(probes), Some((own, full))) = (&plan.probes, measured(plan)) else {
        return "not measured: `plan --strategy probe` or `compare` would tell".into();
    };
    let verdict = verdict(probes);
    if probes.verdict == ProbeVerdict::All {
        return match own.accuracy {
            Some(accuracy) => format!("{:.1} % accuracy; {verdict}", 100.0 * accuracy),
            None => format!("loss {:.4}; {verdict}", own.loss),
        };
    }
    match own.accuracy.zip(full.accuracy) {
        Some((own, full)) => format!(
            "{:.1} % accuracy, {:+.1} ± {:.1} points against all layers: {verdict}",
            100.0 * own,
            100.0 * (own - full),
            100.0 * probes.noise * (1.0 - own)
        ),
        None => format!(
            "loss {:.4}, {:+.1} ± {:.1} % against all layers: {verdict}",
            own.loss,
            100.0 * (own.loss / full.loss - 1.0),
            100.0 * probes.noise
        ),
    }
}

fn verdict(probes: &Probes) -> &'static str {
    match probes.verdict {
        ProbeVerdict::AsGood => "as good",
        ProbeVerdict::Tolerable => "within tolerance",
        ProbeVerdict::Worse => "worse",
        ProbeVerdict::All => "nothing less is as good",
    }
}

/// What the planned arm and full training are expected to give, by the probes.
fn measured(plan: &Plan) -> Option<(&Expected, &Expected)> {
    let probes = plan.probes.as_ref()?;
    Some((&probes.chosen()?.expected, &probes.full()?.expected))
}
