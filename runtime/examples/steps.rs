//! Trains some steps above a frost line, without a plan, and prints each step's loss and the tokens per second.
//!
//!   cargo run --release -p frostline-runtime --example steps -- MODEL DATA FROST_LINE STEPS ROWS [EVAL]

use std::path::Path;

use frostline_runtime::device::Device;
use frostline_runtime::evaluate::evaluate;
use frostline_runtime::scope::Scope;
use frostline_runtime::train::{Observer, Settings, train_scope};
use frostline_schemas::examples::{self, Reading};
use frostline_schemas::folder::ModelFolder;
use frostline_schemas::run::{Order, Schedule, StepMetrics, TrainingSettings};

/// Prints steps; measures from the sixth on, as shared/peer/train_torch.py does.
struct Print {
    tokens: u64,
    seconds: f64,
}

impl Observer for Print {
    fn step(&mut self, metrics: &StepMetrics) -> Result<(), frostline_runtime::Error> {
        if metrics.step > 5 {
            self.tokens += metrics.tokens;
            self.seconds += metrics.seconds;
        }
        println!("{} {} norm {:.4} {:.3} s", metrics.step, metrics.loss, metrics.gradient_norm, metrics.seconds);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, data, numbers @ ..] = arguments.as_slice() else {
        return Err("MODEL DATA FROST_LINE STEPS ROWS [EVAL]".into());
    };
    let number = |k: usize| numbers.get(k).and_then(|text| text.parse::<usize>().ok());
    let model = ModelFolder::open(Path::new(model))?;
    let reading = Reading { encoder: &model.encoder, vocabulary: model.config.vocabulary, max_length: 512 };
    let data = examples::read(Path::new(data), &reading)?;
    let eval = numbers.get(3).map(|path| examples::read(Path::new(path), &reading)).transpose()?;
    let training = TrainingSettings {
        steps: number(1).unwrap_or(20) as u64,
        batch_size: number(2).unwrap_or(16),
        accumulation: 1,
        learning_rate: 2e-5,
        schedule: Schedule::Linear,
        warmup_steps: 10,
        weight_decay: 0.0,
        gradient_clip: None,
        max_length: 512,
        order: Order::File,
        seed: 0,
    };
    let scope = Scope::above(&model.config, number(0).unwrap_or(0))?;
    let settings = Settings { training, device: Device::Cpu, threads: None };
    let mut print = Print { tokens: 0, seconds: 0.0 };
    let digest = frostline_schemas::digest::Digest::of(b"not looked at");
    let trained = train_scope(model, digest, scope, &data.examples, &settings, &mut print)?;
    println!("{:.1} tokens/s", print.tokens as f64 / print.seconds);
    if let Some(eval) = eval {
        let evaluation = evaluate(&trained.decoder, &trained.parameters, &eval.examples, 48, &mut |_, _| ())?;
        println!("{evaluation:?}");
    }
    Ok(())
}
