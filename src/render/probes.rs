//! What probes gave, as a table.

use std::fmt::{self, Write};

use frostline_schemas::plan::{Plan, ProbeMethod, ProbeRule, ProbedArm, Probes};

use super::units::plural;

/// The arms, the dearest first, with what they gave and what a whole training is expected to give.
pub(crate) fn probes(out: &mut String, plan: &Plan, probes: &Probes, method: &ProbeMethod) -> fmt::Result {
    writeln!(
        out,
        "probes of up to {}, {} held back; {:.2} of full training for {} ({:.0} s)\n",
        plural(probes.rows, "row"),
        plural(probes.held_out, "row"),
        probes.share,
        plural(method.steps, "step"),
        probes.seconds
    )?;
    let widest = probes.arms.iter().map(|arm| arm.name.chars().count()).max().unwrap_or(0).max("arm".len());
    writeln!(
        out,
        "  {:widest$} {:>6} {:>8} {:>5} {:>8} {:>7} {:>9} {:>8} {:>6}",
        "arm", "frozen", "a step", "steps", "rate", "loss", "expected", "accuracy", "cost"
    )?;
    for arm in &probes.arms {
        row(out, arm, arm.name == probes.chosen, widest)?;
    }
    writeln!(out, "\n{}\n", rule(plan, method))
}

fn row(out: &mut String, arm: &ProbedArm, is_chosen: bool, widest: usize) -> fmt::Result {
    let longest = arm.longest();
    let expected = &arm.expected;
    writeln!(
        out,
        "{} {:widest$} {:>6} {:>6.1} % {:>5} {:>8} {:>7} {:>9.4} {:>8} {:>6}",
        if is_chosen { '>' } else { ' ' },
        arm.name,
        arm.frost_line,
        100.0 * arm.step_share,
        longest.map_or_else(|| "-".into(), |training| training.steps.to_string()),
        longest.map_or_else(|| "-".into(), |training| format!("{:e}", training.learning_rate)),
        longest.and_then(|training| training.loss).map_or_else(|| "-".into(), |loss| format!("{loss:.4}")),
        expected.loss,
        expected.accuracy.map_or_else(|| "-".into(), |accuracy| format!("{:.1} %", 100.0 * accuracy)),
        format!("{:.0} %", 100.0 * expected.share)
    )
}

fn rule(plan: &Plan, method: &ProbeMethod) -> String {
    let ranks = plan.probes.iter().flat_map(|probes| &probes.arms).any(|arm| arm.expected.accuracy.is_some());
    match method.rule {
        ProbeRule::Cheapest { tolerance } if ranks => {
            format!(
                "chosen: the cheapest within {:.1} points of accuracy of the best, but for the noise",
                100.0 * tolerance
            )
        }
        ProbeRule::Cheapest { tolerance } => {
            format!("chosen: the cheapest within {:.1} % of the least loss, but for the noise", 100.0 * tolerance)
        }
        ProbeRule::Seconds { seconds } => format!("chosen: the best within {seconds} s"),
        ProbeRule::Within { share } => {
            format!("chosen: the best for {:.0} % of what full training costs", 100.0 * share)
        }
    }
}
