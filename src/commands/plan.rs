//! `frostline plan`.

use std::cell::Cell;
use std::path::Path;
use std::time::Instant;

use frostline_planner::{EngineChoice, Progress, Settings, Step};
use frostline_schemas::device::Device;
use frostline_schemas::plan::{Plan, PlanError};
use serde_json::json;

use crate::arguments::{EngineName, PlanArguments};
use crate::output::Output;
use crate::progress::Bar;
use crate::show::count;

pub fn run(arguments: &PlanArguments, output: &Output) -> anyhow::Result<()> {
    refuse_to_write_over(&arguments.out)?;
    let begun = Instant::now();
    let plan = frostline_planner::plan(&settings(arguments)?, &Drawn::new(output))?;
    plan.write(&arguments.out)?;
    let seconds = begun.elapsed().as_secs_f64();
    let summary = json!({
        "plan": arguments.out,
        "id": plan.id,
        "frost_line": plan.decision.frost_line,
        "layers": plan.model.layers,
        "tensors": plan.tensors.len(),
        "trained_parameters": plan.trained_parameters(),
        "engine": plan.engine,
        "seconds": seconds,
        "tokens_per_second": plan.data.tokens as f64 / seconds,
    });
    output.result(&summary, || {
        format!(
            "{}: frost line {} of {} layers; {} tensors, {} parameters to train\n\
             {} examples ({} tokens) in {seconds:.1} s with {} on {}; id {}\n",
            arguments.out.display(),
            plan.decision.frost_line,
            plan.model.layers,
            plan.tensors.len(),
            count(plan.trained_parameters() as f64),
            plan.data.examples,
            plan.data.tokens,
            plan.engine.name,
            plan.engine.provider,
            plan.id
        )
    })
}

/// A plan may take the place of a plan, not of data, a config or weights.
fn refuse_to_write_over(out: &Path) -> anyhow::Result<()> {
    if out.is_file() && matches!(Plan::read(out), Err(PlanError::NotAPlan { .. })) {
        anyhow::bail!("{}: is there already and is no plan; name another place or remove it", out.display());
    }
    Ok(())
}

fn settings(arguments: &PlanArguments) -> anyhow::Result<Settings> {
    let device = arguments.compute.device;
    let engine = match arguments.engine {
        EngineName::Ort => EngineChoice::Ort { library: arguments.ort_library.clone(), device },
        EngineName::Tract if device == Device::Cpu => EngineChoice::Tract,
        EngineName::Tract => anyhow::bail!("--device {device}: tract runs on the CPU; add --engine ort"),
    };
    Ok(Settings {
        model: arguments.model.clone(),
        onnx: arguments.onnx.clone(),
        data: arguments.data.clone(),
        engine,
        threads: arguments.compute.threads,
        examples: arguments.examples,
        seed: arguments.seed,
        max_length: arguments.max_length,
        gain: arguments.gain,
        aggregate: arguments.aggregate,
        min_trainable_layers: arguments.min_trainable_layers,
        budget: arguments.budget,
        latent_spaces: arguments.latent_spaces.clone(),
    })
}

/// Planning's progress as a bar.
pub struct Drawn {
    bar: Bar,
    total: Cell<u64>,
    done: Cell<u64>,
}

impl Drawn {
    pub fn new(output: &Output) -> Drawn {
        Drawn { bar: Bar::new(output, "reading"), total: Cell::new(0), done: Cell::new(0) }
    }
}

impl Progress for Drawn {
    fn begin(&self, step: Step, total: u64) {
        self.bar.say(match step {
            Step::Reading => "reading",
            Step::Comparing => "comparing",
            Step::Basis => "basis",
            Step::Loading => "loading",
            Step::Running => "running",
        });
        self.total.set(total);
        self.done.set(0);
    }

    fn advance(&self, done: u64) {
        self.done.set(self.done.get() + done);
        self.bar.set(self.done.get(), self.total.get(), "examples".into());
    }
}
