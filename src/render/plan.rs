//! A plan, for a person at a terminal.

use std::fmt::{self, Write};

use frostline_schemas::plan::{Aggregate, DecidedBy, Plan};

use super::table;
use super::units::{count, layers, plural};

/// Width of the chart's longest bar, in characters.
const CHART: usize = 30;

/// Renders a plan: what it is bound to, the transition trace as a chart, the decision, the cost table.
///
/// Layers are counted from the input, and the output is at the top: what is above the frost line is trained, what is
/// below it is frozen.
pub(crate) fn render(plan: &Plan) -> Result<String, fmt::Error> {
    let mut out = String::new();
    identity(&mut out, plan)?;
    if !plan.spaces.is_empty() {
        trace(&mut out, plan)?;
    }
    decision(&mut out, plan)?;
    table::cost(&mut out, plan)?;
    Ok(out)
}

fn identity(out: &mut String, plan: &Plan) -> fmt::Result {
    let (model, data, method) = (&plan.model, &plan.data, &plan.method);
    writeln!(out, "plan     {}", plan.id)?;
    writeln!(
        out,
        "model    {}, {}, hidden size {}, vocabulary {};\n         weights {}",
        model.family.name(),
        layers(model.layers),
        model.hidden_size,
        model.vocabulary,
        model.weights.short()
    )?;
    writeln!(
        out,
        "data     {} of {} (seed {}), {}, {};\n         file {}",
        data.examples,
        plural(data.rows, "row"),
        data.seed,
        plural(data.tokens, "token"),
        plural(data.targets, "target"),
        data.file.short()
    )?;
    let budget = method.budget.map_or_else(|| "no budget".into(), |share| format!("budget {share}"));
    match (method.gain, method.aggregate, method.min_trainable_layers) {
        (Some(gain), Some(aggregate), Some(least)) => writeln!(
            out,
            "method   SALF, re-derived: gain {}, aggregate {aggregate},\n         at least {} trained, {budget}",
            gain,
            layers(least)
        )?,
        _ => writeln!(out, "method   {}, {budget}", method.strategy)?,
    }
    if let Some(engine) = &plan.engine {
        writeln!(out, "engine   {} {} on {}", engine.name, engine.version, engine.provider)?;
    }
    writeln!(out)
}

fn trace(out: &mut String, plan: &Plan) -> fmt::Result {
    let deviations = || plan.spaces.iter().map(|space| space.deviation);
    let (low, high) = (deviations().fold(f64::INFINITY, f64::min), deviations().fold(f64::NEG_INFINITY, f64::max));
    let left = format!("{low:.3}");
    writeln!(
        out,
        "space  deviation {left}{high:>width$.3}  spread     gain  ends here",
        width = CHART.saturating_sub(left.len())
    )?;
    for space in plan.spaces.iter().rev() {
        if space.space == plan.decision.frost_line {
            writeln!(out, "{:-^1$}", " frost line: trained above, frozen below ", 44 + CHART)?;
        }
        let gain = space.gain.map_or_else(|| "-".into(), |gain| format!("{gain:.4}"));
        let ends = if space.ends_here > 0 { space.ends_here.to_string() } else { "-".into() };
        let bar = bar((space.deviation - low) / (high - low).max(f64::MIN_POSITIVE));
        writeln!(
            out,
            "{:>5}  {:>9.4} {bar:CHART$}  {:>6.4} {gain:>8}  {ends:>9}",
            space.space, space.deviation, space.spread
        )?;
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
    let trained =
        format!("{}, {} parameters", plural(plan.tensors.len(), "tensor"), count(plan.trained_parameters() as f64));
    match plan.cost.planned {
        None => writeln!(
            out,
            "frost line {frost_line} of {all}: {} frozen, {} trained with the final norm\n({trained})",
            layers(frost_line),
            layers(all - frost_line)
        )?,
        Some(_) => {
            writeln!(
                out,
                "frost line {frost_line} of {all}: {} frozen, above it a choice ({trained}):",
                layers(frost_line)
            )?;
            for line in kinds(&plan.tensors) {
                writeln!(out, "  {line}")?;
            }
        }
    }
    if let Some(examples) = plan.decision.per_example {
        writeln!(
            out,
            "each example trains above its own end-of-freezing layer, rows without one above {}",
            examples.others
        )?;
    }
    let aggregate = plan.method.aggregate.unwrap_or(Aggregate::Median);
    match plan.decision.decided_by {
        DecidedBy::Examples => writeln!(out, "decided by the examples' end-of-freezing layers ({aggregate})\n"),
        DecidedBy::Budget => writeln!(
            out,
            "decided by the budget: the examples' end-of-freezing layers alone ({aggregate}) give {}\n",
            plan.decision.before_budget
        ),
        DecidedBy::Strategy => writeln!(out, "decided by the strategy ({})\n", plan.method.strategy),
    }
}

/// Tensors of one kind on a line, with their layers counted from 1: `model.layers.*.mlp.up_proj.weight  2-4, 7`.
fn kinds(tensors: &[String]) -> Vec<String> {
    let mut kinds: Vec<(String, Vec<usize>)> = Vec::new();
    for name in tensors {
        let mut number = None;
        let parts = name.split('.').map(|part| match (number, part.parse::<usize>()) {
            (None, Ok(layer)) => {
                number = Some(layer);
                "*"
            }
            _ => part,
        });
        let kind = parts.collect::<Vec<&str>>().join(".");
        let place = kinds.iter().position(|(other, _)| *other == kind).unwrap_or_else(|| {
            kinds.push((kind, Vec::new()));
            kinds.len() - 1
        });
        kinds[place].1.extend(number.map(|layer| layer.saturating_add(1)));
    }
    let width = kinds.iter().map(|(kind, _)| kind.len()).max().unwrap_or_default();
    kinds
        .into_iter()
        .map(|(kind, layers)| format!("{kind:<width$}  {}", ranges(&layers)).trim_end().to_owned())
        .collect()
}

/// Ascending numbers, neighbours as ranges: `2-4, 7`.
fn ranges(numbers: &[usize]) -> String {
    let runs =
        numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b)).filter_map(|run| Some((run.first()?, run.last()?)));
    let text = |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    runs.map(text).collect::<Vec<String>>().join(", ")
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
    fn tensors_of_a_kind_are_one_line() {
        let names = ["h.1.a.weight", "h.1.b.weight", "h.2.a.weight", "h.4.a.weight", "norm.weight"].map(str::to_owned);
        assert_eq!(kinds(&names), ["h.*.a.weight  2-3, 5", "h.*.b.weight  2", "norm.weight"]);
    }
}
