//! What gradients say of each layer, as a chart.

use std::fmt::{self, Write};

use frostline_schemas::plan::GradientCard;

use super::bar::{CHART, bar};
use super::units::plural;

/// The gradient card, the output at the top; layers of which something is trained are marked.
pub(crate) fn card(out: &mut String, card: &GradientCard, tensors: &[String]) -> fmt::Result {
    let largest = card.layers.iter().map(|layer| layer.held_out_fall).fold(f64::MIN_POSITIVE, f64::max);
    let trained = trained(tensors);
    writeln!(
        out,
        "gradients of {} batches of at most {}, mean loss {:.4}",
        card.batches,
        plural(card.rows, "example"),
        card.loss
    )?;
    writeln!(out, "layer       promises {:CHART$}  ‖g‖ / ‖W‖      signal", "")?;
    for layer in card.layers.iter().rev() {
        let mark = if trained.contains(&layer.layer) { "trained" } else { "" };
        let bar = bar(layer.held_out_fall / largest, CHART);
        let text = format!(
            "{:>5} {mark:>7} {:>3.0} % {bar:CHART$} {:>10.3e} {:>11.3e}",
            layer.layer,
            100.0 * layer.held_out_fall / largest,
            layer.relative_norm(),
            layer.signal
        );
        writeln!(out, "{}", text.trim_end())?;
    }
    writeln!(out)
}

/// Numbers of the layers of which something is trained: the first number in a tensor's name counts from 0.
fn trained(tensors: &[String]) -> Vec<usize> {
    let number = |name: &String| name.split('.').find_map(|part| part.parse::<usize>().ok());
    tensors.iter().filter_map(number).map(|layer| layer.saturating_add(1)).collect()
}
