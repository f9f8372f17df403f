//! A plan, for a person at a terminal.

use std::fmt::{self, Write};

use frostline_schemas::plan::{Aggregate, DecidedBy, LearningRate, Plan, Stability};

use super::bar::{CHART, bar};
use super::gradients;
use super::meaning::meaning;
use super::probes;
use super::signals::Signal;
use super::table;
use super::units::{count, layers, plural};

/// Its least width, for which a row may become wider.
const LEAST_CHART: usize = 11;
/// Width of a row of the chart, in characters.
const WIDTH: usize = 80;
/// Width of what stands in each row beside the bar.
const NUMBERS: usize = 45;

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
    if let Some(card) = plan.gradients.as_ref().filter(|_| plan.spaces.is_empty()) {
        gradients::card(&mut out, card, &plan.tensors)?;
    }
    if let (Some(found), Some(method)) = (&plan.probes, &plan.method.probe) {
        probes::probes(&mut out, plan, found, method)?;
    }
    decision(&mut out, plan)?;
    table::cost(&mut out, plan)?;
    meaning(&mut out, plan)?;
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
        _ if method.probe.is_some() => writeln!(out, "method   {}", method.strategy)?,
        _ => writeln!(out, "method   {}, {budget}", method.strategy)?,
    }
    if let Some(engine) = &plan.engine {
        writeln!(out, "engine   {} {} on {}", engine.name, engine.version, engine.provider)?;
    }
    writeln!(out)
}

fn trace(out: &mut String, plan: &Plan) -> fmt::Result {
    let signals: Vec<Signal> = Signal::ALL.into_iter().filter(|signal| signal.is_in(plan)).collect();
    let others = signals.iter().map(Signal::width).sum::<usize>();
    let chart = WIDTH.saturating_sub(NUMBERS + others).clamp(LEAST_CHART, CHART);
    let deviations = || plan.spaces.iter().map(|space| space.deviation);
    let (low, high) = (deviations().fold(f64::INFINITY, f64::min), deviations().fold(f64::NEG_INFINITY, f64::max));
    let left = format!("{low:.3}");
    let titles: String = signals.iter().map(|signal| format!("{:>1$}", signal.title(), signal.width())).collect();
    writeln!(
        out,
        "space  deviation {left}{high:>width$.3}  spread     gain{titles}  ends here",
        width = chart.saturating_sub(left.len())
    )?;
    for space in plan.spaces.iter().rev() {
        if space.space == plan.decision.frost_line {
            let width = NUMBERS - 1 + chart + titles.chars().count();
            writeln!(out, "{:-^width$}", " frost line: trained above, frozen below ")?;
        }
        let gain = space.gain.map_or_else(|| "-".into(), |gain| format!("{gain:.4}"));
        let ends = if space.ends_here > 0 { space.ends_here.to_string() } else { "-".into() };
        let bar = bar((space.deviation - low) / (high - low).max(f64::MIN_POSITIVE), chart);
        let others: String =
            signals.iter().map(|signal| format!("{:>1$}", signal.shown(plan, space), signal.width())).collect();
        writeln!(
            out,
            "{:>5}  {:>9.4} {bar:chart$}  {:>6.4} {gain:>8}{others}  {ends:>9}",
            space.space, space.deviation, space.spread
        )?;
    }
    writeln!(out)?;
    for signal in &signals {
        writeln!(out, "{:<6} {}", signal.title(), signal.meaning())?;
    }
    if signals.is_empty() { Ok(()) } else { writeln!(out) }
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
    if let Some(LearningRate { full, lora, origin }) = plan.learning_rate {
        writeln!(out, "learning rate {full:e}, of adapters {lora:e}: {origin}")?;
    }
    match plan.decision.decided_by {
        DecidedBy::Examples => writeln!(out, "decided by the examples' end-of-freezing layers ({aggregate})"),
        DecidedBy::Budget => writeln!(
            out,
            "decided by the budget: the examples' end-of-freezing layers alone ({aggregate}) give {}",
            plan.decision.before_budget
        ),
        DecidedBy::Strategy => writeln!(out, "decided by the strategy ({})", plan.method.strategy),
    }?;
    if let Some(stability) = plan.decision.stability {
        writeln!(out, "{}", stable(stability))?;
    }
    writeln!(out)
}

/// How stable a frost line is, in words.
fn stable(stability: Stability) -> String {
    let Stability { agree, low, high } = stability;
    let share = (1000.0 * agree).round() / 10.0;
    let word = if stability.is_stable() { "stable" } else { "not quite stable" };
    let range = if low == high { format!("lie at {low}") } else { format!("lie from {low} to {high}") };
    format!("{word}: {share} % of resamples of the examples give the same line; 95 % {range}")
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
    use frostline_schemas::plan::{GradientCard, LayerGradients};

    use super::*;

    /// The plan of the snapshots, which holds no signals.
    fn plan() -> Plan {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/plan.json");
        let mut plan = Plan::read(&path).unwrap();
        plan.decision.stability = None;
        plan.spaces.iter_mut().for_each(|space| (space.variability, space.cka_distance) = (None, None));
        plan
    }

    /// The chart's title line, and a row of it.
    fn chart(plan: &Plan, space: usize) -> (String, String) {
        let mut out = String::new();
        trace(&mut out, plan).unwrap();
        let line = |begin: &str| out.lines().find(|line| line.starts_with(begin)).unwrap().to_owned();
        assert!(out.lines().all(|line| line.chars().count() <= WIDTH), "{out}");
        let width = line("space ").chars().count();
        assert_eq!((width, width), (line(&format!("{space:>5}  ")).chars().count(), line("---").chars().count() + 1));
        (line("space "), line(&format!("{space:>5}  ")))
    }

    #[test]
    fn a_signal_has_a_column_only_where_the_plan_has_it() {
        let mut plan = plan();
        let (title, _) = chart(&plan, 3);
        assert!(!title.contains('ν') && !title.contains("1-CKA") && !title.contains("fall"), "{title}");
        plan.spaces[3].cka_distance = Some(0.25);
        let (title, row) = chart(&plan, 3);
        assert!(!title.contains('ν') && title.ends_with("gain  1-CKA  ends here"), "{title}");
        assert!(row.contains(" 0.2500  "), "{row}");
        assert!(chart(&plan, 4).1.trim_end().contains("      -  "), "{}", chart(&plan, 4).1);
    }

    #[test]
    fn all_signals_stand_side_by_side() {
        let mut plan = plan();
        (plan.spaces[3].variability, plan.spaces[3].cka_distance) = (Some(1.5), Some(0.25));
        plan.spaces[4].variability = Some(12_345.0);
        let layer = |layer| LayerGradients {
            layer,
            weight_norm: 1.0,
            gradient_norm: 1.0,
            gradient_l1: 1.0,
            signal: 1.0,
            fall: 2.0,
            held_out_fall: -0.5 * layer as f64,
        };
        let layers = (1..=plan.model.layers).map(layer).collect();
        plan.gradients = Some(GradientCard { batches: 2, rows: 16, loss: 1.0, layers });
        let (title, row) = chart(&plan, 3);
        assert!(title.ends_with("gain       ν  1-CKA     fall  ends here"), "{title}");
        assert!(row.contains("   1.500 0.2500   -1.5e0  "), "{row}");
        assert!(chart(&plan, 4).1.contains("   1.2e4      -   -2.0e0  "), "{}", chart(&plan, 4).1);
    }

    #[test]
    fn a_frost_line_says_how_stable_it_is() {
        let said = |agree, low, high| stable(Stability { agree, low, high });
        assert_eq!(
            said(0.97, 12, 13),
            "stable: 97 % of resamples of the examples give the same line; 95 % lie from 12 to 13"
        );
        assert!(said(0.998, 13, 13).contains(" 99.8 % ") && said(0.998, 13, 13).ends_with("95 % lie at 13"));
        assert!(said(0.5, 3, 9).starts_with("not quite stable: 50 % "));
    }

    #[test]
    fn tensors_of_a_kind_are_one_line() {
        let names = ["h.1.a.weight", "h.1.b.weight", "h.2.a.weight", "h.4.a.weight", "norm.weight"].map(str::to_owned);
        assert_eq!(kinds(&names), ["h.*.a.weight  2-3, 5", "h.*.b.weight  2", "norm.weight"]);
    }
}
