//! Training by several strategies.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use frostline_planner::{PlanSettings, Strategy};
use frostline_runtime::run::JobFiles;
use frostline_runtime::train::TrainSettings;
use frostline_schemas::run::TrainingSettings;

use super::cache::CacheArguments;
use super::compute::ComputeArguments;
use super::plan::{EngineArguments, SampleArguments};
use super::train::DEFAULTS;
use super::values::{Rate, at_least_one, rate};

/// Flags of `frostline compare`.
#[derive(Args)]
pub(crate) struct CompareArguments {
    #[command(flatten, next_help_heading = "Files")]
    files: CompareFiles,
    #[command(flatten, next_help_heading = "What is compared")]
    compared: ComparedArguments,
    #[command(flatten, next_help_heading = "Examples")]
    sample: SampleArguments,
    #[command(flatten, next_help_heading = "Running the model")]
    engine: EngineArguments,
    #[command(flatten, next_help_heading = "Running the model")]
    compute: ComputeArguments,
    #[command(flatten, next_help_heading = "Cache")]
    cache: CacheArguments,
}

/// What is read and written.
#[derive(Args)]
struct CompareFiles {
    /// Model folder: config.json, safetensors weights, tokenizer.json.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Examples to plan with and to train on, JSONL.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Examples to evaluate on, JSONL.
    #[arg(long, value_name = "FILE")]
    eval: PathBuf,
    /// Folder to write the plans into.
    #[arg(long, value_name = "DIR")]
    plans: Option<PathBuf>,
}

/// The strategies, and how each is trained by.
#[derive(Args)]
struct ComparedArguments {
    /// Strategies, as `frostline plan --strategy` takes them.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', required = true)]
    strategies: Vec<Strategy>,
    /// Steps of each training.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Rows of a step.
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.batch_size, value_parser = at_least_one)]
    batch_size: usize,
    /// The largest learning rate.
    #[arg(long, visible_alias = "lr", value_name = "RATE", default_value_t = Rate(DEFAULTS.learning_rate), value_parser = rate)]
    learning_rate: Rate,
}

/// Flags of `frostline quickstart`.
#[derive(Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct QuickstartArguments {
    /// Folder to leave the model, its data and the plan in [default: a temporary one, removed at the end].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl CompareArguments {
    /// The files to train and evaluate with.
    pub(crate) fn files(&self) -> JobFiles {
        JobFiles {
            model: self.files.model.clone(),
            data: self.files.data.clone(),
            eval: Some(self.files.eval.clone()),
            max_length: self.sample.max_length,
        }
    }

    /// The folder to write plans into, if one is named.
    pub(crate) fn plans(&self) -> Option<&PathBuf> {
        self.files.plans.as_ref()
    }

    /// The strategies, each of them once.
    pub(crate) fn strategies(&self) -> anyhow::Result<&[Strategy]> {
        let strategies = &self.compared.strategies;
        let twice = strategies.iter().enumerate().find(|(index, strategy)| strategies[..*index].contains(strategy));
        match twice {
            Some((_, strategy)) => bail!("--strategies: {strategy} is there twice"),
            None => Ok(strategies),
        }
    }

    /// The planner's settings for one of the strategies.
    pub(crate) fn planning(&self, strategy: &Strategy) -> anyhow::Result<PlanSettings> {
        Ok(PlanSettings {
            onnx: self.engine.onnx.clone(),
            strategy: strategy.clone(),
            engine: self.engine.choice(self.compute.device)?,
            threads: self.compute.threads,
            examples: self.sample.examples,
            seed: self.sample.seed,
            max_length: self.sample.max_length,
            cache: self.cache.store(),
            ..PlanSettings::new(self.files.model.clone(), self.files.data.clone())
        })
    }

    /// The defaults of `frostline train`, without a cache of states, so that the steps' times can be compared.
    pub(crate) fn training(&self) -> TrainSettings {
        let training = TrainingSettings {
            batch_size: self.compared.batch_size,
            learning_rate: self.compared.learning_rate.0,
            max_length: self.sample.max_length,
            seed: self.sample.seed,
            ..TrainingSettings::of_steps(self.compared.steps)
        };
        TrainSettings { device: self.compute.device, threads: self.compute.threads, ..TrainSettings::new(training) }
    }
}
