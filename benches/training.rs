//! Trains above a given frost line and prints what it took, for `benches/compare.py`.
//!
//!   cargo bench --bench training -- --model DIR --data FILE --frost-line N --steps N --batch-size N
//!
//! Rows are taken in the order of the file; AdamW without weight decay or clipping, linear warm-up over 10 steps times
//! linear decay to 0.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Parser;
use frostline_runtime::cache::{CacheSettings, CacheUse};
use frostline_runtime::model::Scope;
use frostline_runtime::system::peak_bytes;
use frostline_runtime::train::{Hook, Step, TrainSettings, train};
use frostline_schemas::cache::{DEFAULT_LIMIT, Store};
use frostline_schemas::data::{self, Encoder, RowSettings};
use frostline_schemas::device::Device;
use frostline_schemas::model::ModelFolder;
use frostline_schemas::run::{Order, StepMetrics, TrainingSettings};

#[global_allocator]
static ALLOCATOR: frostline_runtime::system::CachingAllocator = frostline_runtime::system::CachingAllocator;

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    model: PathBuf,
    #[arg(long)]
    data: PathBuf,
    #[arg(long)]
    frost_line: usize,
    #[arg(long)]
    steps: u64,
    #[arg(long)]
    batch_size: usize,
    #[arg(long, default_value_t = 2e-5)]
    learning_rate: f64,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// Steps that are not timed.
    #[arg(long, default_value_t = 3)]
    settle: usize,
    #[arg(long)]
    recompute: bool,
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long)]
    bench: bool,
}

#[derive(Default)]
struct Steps(Vec<StepMetrics>);

impl Hook for Steps {
    fn step(&mut self, step: &Step) -> Result<ControlFlow<()>, frostline_runtime::Error> {
        self.0.push(step.metrics.clone());
        Ok(ControlFlow::Continue(()))
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let model = ModelFolder::open(&arguments.model)?;
    let (encoder, rows) = (Encoder::new(&model.path), RowSettings::up_to(4096));
    let examples = data::read_examples(&model.config, &encoder, &arguments.data, &rows)?.examples;
    let scope = Scope::above(&model.config, arguments.frost_line)?;
    let identity = model.identity()?;
    let settings = TrainSettings {
        device: arguments.device,
        recompute: arguments.recompute,
        cache: arguments
            .cache
            .map(|root| CacheSettings { store: Store::new(root, DEFAULT_LIMIT), using: CacheUse::Always }),
        threads: Some(arguments.threads),
        ..TrainSettings::new(TrainingSettings {
            batch_size: arguments.batch_size,
            learning_rate: arguments.learning_rate,
            gradient_clip: None,
            max_length: 4096,
            order: Order::File,
            ..TrainingSettings::of_steps(arguments.steps)
        })
    };
    let mut steps = Steps::default();
    train(model, &identity, scope, &examples, &settings, &mut steps)?;
    let timed = &steps.0[arguments.settle.min(steps.0.len() - 1)..];
    let seconds: f64 = timed.iter().map(|step| step.seconds).sum();
    let tokens: u64 = timed.iter().map(|step| step.tokens).sum();
    let result = serde_json::json!({
        "peer": "frostline",
        "frost_line": arguments.frost_line,
        "threads": arguments.threads,
        "losses": steps.0.iter().map(|step| step.loss).collect::<Vec<f64>>(),
        "seconds_per_step": seconds / timed.len() as f64,
        "tokens_per_second": tokens as f64 / seconds,
        "peak_bytes": peak_bytes(),
    });
    println!("{result}");
    Ok(())
}
