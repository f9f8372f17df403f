//! The cost of every frost line, in 80 columns.

use std::fmt::{self, Write};

use frostline_schemas::plan::Plan;
use frostline_schemas::select::Cost;

use super::units::{bytes, count, plural};

/// Writes what a step costs with every frost line, the highest first as in the chart above it.
pub(super) fn cost(out: &mut String, plan: &Plan) -> fmt::Result {
    let step = &plan.cost.step;
    writeln!(
        out,
        "cost of a step of {} of {:.1} tokens, {:.1} of them targets, in f32;",
        plural(step.rows, "row"),
        step.tokens_per_row,
        step.targets_per_row
    )?;
    let full = plan.cost.at(0).map_or(f64::NAN, |cost| cost.flops as f64);
    writeln!(out, "cached: the state at the frost line is read from a cache; 100 %: {}FLOPs\n", count(full))?;
    writeln!(out, "{:>28} {:>22} {:>13}", "FLOPs", "weights", "gradients,")?;
    writeln!(out, "frost line  trained    all cached       all    cached    moments activations")?;
    for cost in plan.cost.frost_lines.iter().rev() {
        let is_plan = plan.cost.planned.is_none() && cost.frost_line == plan.decision.frost_line;
        row(out, if is_plan { '>' } else { ' ' }, &cost.frost_line.to_string(), cost)?;
    }
    plan.cost.planned.as_ref().map_or(Ok(()), |cost| row(out, '>', "the plan", cost))
}

fn row(out: &mut String, mark: char, name: &str, cost: &Cost) -> fmt::Result {
    writeln!(
        out,
        "{mark}{name:>9}  {:>7} {:>5.1}% {:>5.1}% {:>9} {:>9} {:>10} {:>11}",
        count(cost.trained_parameters as f64),
        100.0 * cost.share,
        100.0 * cost.cached_share,
        bytes(cost.weight_bytes),
        bytes(cost.cached_weight_bytes),
        bytes(cost.gradient_bytes.saturating_add(cost.optimizer_bytes)),
        bytes(cost.activation_bytes)
    )
}
