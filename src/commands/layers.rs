//! `frostline layers`.

use std::fmt::{self, Write};

use frostline_planner::Layers;

use crate::arguments::LayersArguments;
use crate::output::Output;
use crate::render::units::bytes;

pub(crate) fn run(arguments: &LayersArguments, output: &Output) -> anyhow::Result<()> {
    let layers = frostline_planner::layers(&arguments.onnx, arguments.spaces.latent_spaces.as_deref())?;
    let text = render(&layers)?;
    output.result(&layers, || text)
}

fn render(layers: &Layers) -> Result<String, fmt::Error> {
    let mut out = String::new();
    writeln!(out, "made by     {}, opset {}, {} nodes", layers.producer, layers.opset, layers.nodes)?;
    writeln!(out, "weights     {} in the file", bytes(layers.weights_inside))?;
    for file in &layers.external {
        writeln!(out, "            {} in {}", bytes(file.bytes), file.name)?;
    }
    for (what, values) in [("input", &layers.inputs), ("output", &layers.outputs)] {
        for value in values {
            writeln!(out, "{what:<11} {}: {}", value.name, value.kind)?;
        }
    }
    writeln!(out, "embedding   {} {:?}", layers.embedding.tensor, layers.embedding.shape)?;
    writeln!(out, "final norm  {}", layers.final_norm.join(", "))?;
    writeln!(out, "head        {} {:?}\n", layers.head.tensor, layers.head.shape)?;
    writeln!(out, "space  nodes  adds  tensor")?;
    for space in &layers.latent_spaces {
        let label = space.label.as_ref().map(|label| format!("  ({label})")).unwrap_or_default();
        writeln!(out, "{:>5}  {:>5}  {:>4}  {}{label}", space.space, space.nodes, space.residual_adds, space.tensor)?;
    }
    Ok(out)
}
