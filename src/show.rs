//! A plan, for a person at a terminal.

use std::fmt::{self, Write};

use frostline_schemas::plan::{DecidedBy, Plan};

/// Width of the chart's longest bar, in characters.
const CHART: usize = 30;

/// Renders a plan: what it is bound to, the transition trace as a chart, the decision, the cost table.
pub fn render(plan: &Plan) -> Result<String, fmt::Error> {
    let mut out = String::new();
    identity(&mut out, plan)?;
    trace(&mut out, plan)?;
    decision(&mut out, plan)?;
    cost(&mut out, plan)?;
    Ok(out)
}

fn identity(out: &mut String, plan: &Plan) -> fmt::Result {
    let (model, data, method) = (&plan.model, &plan.data, &plan.method);
    writeln!(out, "plan     {}", plan.id)?;
    writeln!(
        out,
        "model    {}, {} layers, hidden size {}, vocabulary {}; weights {}",
        model.family.name(),
        model.layers,
        model.hidden_size,
        model.vocabulary,
        model.weights.short()
    )?;
    writeln!(
        out,
        "data     {} of {} rows (seed {}), {} tokens, {} targets; file {}",
        data.examples,
        data.rows,
        data.seed,
        data.tokens,
        data.targets,
        data.file.short()
    )?;
    let budget = method.budget.map_or_else(|| "no budget".into(), |share| format!("budget {share}"));
    writeln!(
        out,
        "method   SALF, re-derived: gain {}, aggregate {}, at least {} trained, {budget}",
        method.gain.name(),
        method.aggregate,
        layers(method.min_trainable_layers)
    )?;
    writeln!(out, "engine   {} {} on {}\n", plan.engine.name, plan.engine.version, plan.engine.provider)
}

fn trace(out: &mut String, plan: &Plan) -> fmt::Result {
    let deviations = || plan.spaces.iter().map(|space| space.deviation);
    let (low, high) = (deviations().fold(f64::INFINITY, f64::min), deviations().fold(f64::NEG_INFINITY, f64::max));
    let left = format!("{low:.3}");
    writeln!(out, "space  deviation {left}{high:>width$.3}  spread     gain  ends here", width = CHART - left.len())?;
    for space in &plan.spaces {
        let gain = space.gain.map_or_else(|| "-".into(), |gain| format!("{gain:.4}"));
        let ends = if space.ends_here > 0 { space.ends_here.to_string() } else { "-".into() };
        let bar = bar((space.deviation - low) / (high - low).max(f64::MIN_POSITIVE));
        writeln!(
            out,
            "{:>5}  {:>9.4} {bar:CHART$}  {:>6.4} {gain:>8}  {ends:>9}",
            space.space, space.deviation, space.spread
        )?;
        if space.space == plan.decision.frost_line {
            writeln!(out, "{:-^1$}", " frost line: frozen above, trained below ", 44 + CHART)?;
        }
    }
    writeln!(out)
}

/// A bar of eighths of a character.
fn bar(share: f64) -> String {
    const PARTS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
    // The least is an eighth, so that every row has a bar.
    let eighths = ((share.clamp(0.0, 1.0) * CHART as f64 * 8.0).round() as usize).max(1);
    let mut bar = "█".repeat(eighths / 8);
    bar.extend((eighths % 8).checked_sub(1).map(|part| PARTS[part]));
    bar
}

fn decision(out: &mut String, plan: &Plan) -> fmt::Result {
    let (frost_line, all) = (plan.decision.frost_line, plan.model.layers);
    writeln!(
        out,
        "frost line {frost_line} of {all}: {} frozen, {} trained with the final norm ({} tensors, {} parameters)",
        layers(frost_line),
        layers(all - frost_line),
        plan.tensors.len(),
        count(plan.trained_parameters() as f64)
    )?;
    match plan.decision.decided_by {
        DecidedBy::Examples => {
            writeln!(out, "decided by the examples' end-of-freezing layers ({})\n", plan.method.aggregate)
        }
        DecidedBy::Budget => writeln!(
            out,
            "decided by the budget: the examples' end-of-freezing layers alone ({}) give {}\n",
            plan.method.aggregate, plan.decision.before_budget
        ),
    }
}

fn cost(out: &mut String, plan: &Plan) -> fmt::Result {
    let step = &plan.cost.step;
    writeln!(
        out,
        "cost of a step of {} rows of {:.1} tokens, {:.1} of them targets, in f32; cached: the state at the frost line is",
        step.rows, step.tokens_per_row, step.targets_per_row
    )?;
    writeln!(
        out,
        "  frost line   trained    FLOPs   share     weights  gradients  optimiser  activations | cached   share     weights"
    )?;
    for cost in &plan.cost.frost_lines {
        let mark = if cost.frost_line == plan.decision.frost_line { '>' } else { ' ' };
        writeln!(
            out,
            "{mark} {:>10}  {:>8}  {:>7}  {:>5.1}%  {:>10}  {:>9}  {:>9}  {:>11} | {:>7} {:>5.1}%  {:>10}",
            cost.frost_line,
            count(cost.trained_parameters as f64),
            count(cost.flops as f64),
            100.0 * cost.share,
            bytes(cost.weight_bytes),
            bytes(cost.gradient_bytes),
            bytes(cost.optimizer_bytes),
            bytes(cost.activation_bytes),
            count(cost.cached_flops as f64),
            100.0 * cost.cached_share,
            bytes(cost.cached_weight_bytes)
        )?;
    }
    Ok(())
}

fn layers(number: usize) -> String {
    if number == 1 { "1 layer".into() } else { format!("{number} layers") }
}

/// A number with a decimal unit: 33.1 M.
pub fn count(number: f64) -> String {
    scaled(number, 1000.0, &["", " k", " M", " G", " T", " P"])
}

/// Bytes with a binary unit: 512.0 MiB.
pub fn bytes(number: u64) -> String {
    scaled(number as f64, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

fn scaled(mut number: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while number >= step && unit + 1 < units.len() {
        number /= step;
        unit += 1;
    }
    if unit == 0 { format!("{number:.0}{}", units[0]) } else { format!("{number:.1}{}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_by_eighths() {
        assert_eq!(bar(0.0), "▏");
        assert_eq!(bar(1.0).chars().count(), CHART);
        assert_eq!(bar(1.5 / CHART as f64), "█▌");
    }

    #[test]
    fn numbers_have_units() {
        assert_eq!([count(999.0), count(33_100_000.0)], ["999", "33.1 M"]);
        assert_eq!([bytes(1023), bytes(1536)], ["1023 B", "1.5 KiB"]);
    }
}
