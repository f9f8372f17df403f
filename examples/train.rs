//! Trains by a plan from Rust, with a hook of one's own: it evaluates the model on held-out rows as training goes on.
//!
//! ```text
//! frostline plan --model examples/quickstart --data examples/quickstart/train.jsonl --out plan.json
//! cargo run --release --example train -- examples/quickstart plan.json
//! ```

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use frostline_runtime::Error;
use frostline_runtime::evaluate::evaluate;
use frostline_runtime::run::{Job, JobFiles};
use frostline_runtime::train::{Hook, Step, TrainSettings};
use frostline_schemas::data::{self, Encoder, Example, RowSettings};
use frostline_schemas::model::read_config;
use frostline_schemas::plan::Plan;
use frostline_schemas::run::TrainingSettings;

const BATCH_SIZE: usize = 8;
const MAX_LENGTH: usize = 512;

/// Evaluates the model every so many steps.
struct EvaluateEvery {
    steps: u64,
    held_out: Vec<Example>,
}

impl Hook for EvaluateEvery {
    fn step(&mut self, step: &Step) -> Result<ControlFlow<()>, Error> {
        let metrics = step.metrics;
        if metrics.step.is_multiple_of(self.steps) {
            let held_out = evaluate(step.model, &self.held_out, BATCH_SIZE, &mut |_, _| ())?.loss;
            println!("step {:>4}  loss {:.4}  held out {held_out:.4}", metrics.step, metrics.loss);
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, plan] = &arguments[..] else { anyhow::bail!("usage: train MODEL PLAN") };
    let folder = Path::new(model);
    let held_out = folder.join("test.jsonl");
    let rows = RowSettings::up_to(MAX_LENGTH);
    let held_out = data::read_examples(&read_config(folder)?, &Encoder::new(folder), &held_out, &rows)?.examples;
    let data: PathBuf = folder.join("train.jsonl");
    let job = Job::open(&JobFiles { model: folder.into(), data, eval: None, rows })?;

    let training = TrainingSettings { batch_size: BATCH_SIZE, learning_rate: 1e-3, ..TrainingSettings::of_steps(100) };
    let mut hook = EvaluateEvery { steps: 25, held_out };
    let finished = job.run(&Plan::read(Path::new(plan))?, &TrainSettings::new(training), &mut hook)?;
    println!("trained {} parameters in {:.1} s", finished.trained_parameters, finished.seconds);
    Ok(())
}
