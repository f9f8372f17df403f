//! Plans from Rust: where to fine-tune the quickstart's model, and why there.
//!
//! ```console
//! $ cargo run --release --example plan
//! ```

use std::path::Path;

use frostline_planner::{PlanSettings, Planned, Progress, RowSettings, Stage, plan};

/// Prints each stage of planning as it begins.
struct Stages;

impl Progress for Stages {
    fn begin(&self, stage: Stage, total: u64) {
        match total {
            0 => eprintln!("{stage:?}"),
            total => eprintln!("{stage:?} {total} examples"),
        }
    }

    fn advance(&self, _: u64) {}
}

fn main() -> anyhow::Result<()> {
    // A model folder (config.json, safetensors, tokenizer.json and its ONNX export) and rows of examples.
    let quickstart = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart");
    let settings = PlanSettings {
        examples: Some(128),
        rows: RowSettings::up_to(64),
        ..PlanSettings::new(quickstart.clone(), quickstart.join("train.jsonl"))
    };
    let Planned { plan, .. } = plan(&settings, &Stages)?;

    println!("layer  deviation    gain");
    for space in &plan.spaces {
        let gain = space.gain.map_or_else(String::new, |gain| format!("{gain:7.3}"));
        println!("{:>5}  {:9.4}  {gain}", space.space, space.deviation);
    }
    let (frost_line, layers) = (plan.decision.frost_line, plan.model.layers);
    println!("frost line {frost_line} of {layers}: the {frost_line} layers below it are frozen");
    println!("{} tensors with {} parameters are trained", plan.tensors.len(), plan.trained_parameters());
    // What `frostline train --plan` reads: plan.write("plan.json".as_ref())?;
    Ok(())
}
