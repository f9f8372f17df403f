//! Training by several strategies.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use frostline_planner::{PlanSettings, Strategy};
use frostline_runtime::compare::{ArmMethod, Budget, CompareSettings, Rates};
use frostline_runtime::probe::{Aim, Horizon, ProbeSettings};
use frostline_runtime::run::JobFiles;
use frostline_runtime::train::TrainSettings;
use frostline_schemas::run::{Lora, TrainingSettings};
use frostline_schemas::select::Shard;

use super::cache::CacheArguments;
use super::compute::ComputeArguments;
use super::plan::{EngineArguments, Evidence, SampleArguments};
use super::train::DEFAULTS;
use super::values::{RatesOrAuto, at_least_one, part, positive, rates};

/// Flags of `frostline compare`.
#[derive(Args)]
pub(crate) struct CompareArguments {
    #[command(flatten, next_help_heading = "Files")]
    files: CompareFiles,
    #[command(flatten, next_help_heading = "What is compared")]
    compared: ComparedArguments,
    #[command(flatten, next_help_heading = "Each training")]
    trained: TrainedArguments,
    #[command(flatten, next_help_heading = "Examples")]
    sample: SampleArguments,
    #[command(flatten, next_help_heading = "Running the model")]
    engine: EngineArguments,
    #[command(flatten, next_help_heading = "Running the model")]
    compute: ComputeArguments,
    #[command(flatten, next_help_heading = "More than one machine")]
    pub shards: CompareShards,
    #[command(flatten, next_help_heading = "Cache")]
    cache: CacheArguments,
}

/// What is read and written.
#[derive(Args)]
struct CompareFiles {
    /// Model folder: config.json, safetensors weights, tokenizer.json.
    #[arg(long, value_name = "DIR", required_unless_present = "from_results")]
    model: Option<PathBuf>,
    /// Examples to plan with, to train on and, a part of them, to choose by: JSONL, a JSON array, Parquet or Arrow.
    #[arg(long, value_name = "FILE", required_unless_present = "from_results")]
    data: Option<PathBuf>,
    /// Examples to evaluate on: they are reported, and nothing is chosen by them.
    #[arg(long, value_name = "FILE")]
    eval: Option<PathBuf>,
    /// Folder to write the plans into.
    #[arg(long, value_name = "DIR")]
    plans: Option<PathBuf>,
    /// Where to write a picture, SVG: the loss on rows held back over seconds.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

/// The arms.
#[derive(Args)]
struct ComparedArguments {
    /// Strategies, as `frostline plan --strategy` takes them.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', required_unless_present = "from_results")]
    strategies: Vec<Strategy>,
    /// Each strategy is trained by each of these.
    #[arg(long, value_enum, value_name = "METHOD,…", value_delimiter = ',', default_values_t = [MethodName::Full])]
    methods: Vec<MethodName>,
    /// Leave out full training and LoRA on all layers, which are compared with unless they are named.
    #[arg(long)]
    only: bool,
    /// Of adapters: their rank.
    #[arg(long, value_name = "N", default_value_t = Lora::RANK, value_parser = at_least_one)]
    rank: usize,
}

/// Comparing on more than one machine.
#[derive(Args)]
pub(crate) struct CompareShards {
    /// Train one of N equal parts of the arms, the K-th from 1, and write its results instead of the comparison.
    #[arg(long = "arm", value_name = "K/N", requires = "results", conflicts_with_all = ["picture", "from_results"])]
    shard: Option<Shard>,
    /// Where to write the results of that part.
    #[arg(long, value_name = "FILE", requires = "shard", conflicts_with_all = ["picture", "from_results"])]
    results: Option<PathBuf>,
    /// Compare by the results of all parts, in any order, without training.
    #[arg(long, value_name = "FILE", num_args = 1.., group = "StepsOrSeconds", conflicts_with_all = OF_TRAINING)]
    pub from_results: Option<Vec<PathBuf>>,
}

/// Flags of a training, and groups of them.
const OF_TRAINING: [&str; 17] = [
    "model",
    "data",
    "eval",
    "plans",
    "strategies",
    "methods",
    "only",
    "rank",
    "learning_rates",
    "held_out",
    "seeds",
    "batch_size",
    "examples",
    "seed",
    "RowArguments",
    "EngineArguments",
    "ComputeArguments",
];

/// What each training may take.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct StepsOrSeconds {
    /// Steps of each training.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Seconds of each training, the filling of the cache among them; the learning rate decays within them.
    #[arg(long, value_name = "N", value_parser = positive)]
    seconds: Option<f64>,
}

/// How an arm is trained.
#[derive(Args)]
struct TrainedArguments {
    #[command(flatten)]
    budget: StepsOrSeconds,
    /// Learning rates to try for each arm; `auto`: steps of about 3 from a rate usual for the arm, on to the best.
    #[arg(long, visible_aliases = ["learning-rate", "lr"], value_name = "RATE,…", default_value = "auto",
        value_parser = rates)]
    learning_rates: RatesOrAuto,
    /// The share of the training rows that is held back to choose the rate by.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = part)]
    held_out: f64,
    /// Seeds that each arm's best rate is trained with.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Rows of a step.
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.batch_size, value_parser = at_least_one)]
    batch_size: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodName {
    /// The planned tensors themselves.
    Full,
    /// Low-rank adapters beside their matrices.
    Lora,
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
    ///
    /// # Errors
    /// Where they are not named, which the flags' own rules leave no case of.
    pub(crate) fn files(&self) -> anyhow::Result<JobFiles> {
        let CompareFiles { model, data, eval, .. } = &self.files;
        Ok(JobFiles {
            model: model.clone().context("say where the model is: --model DIR")?,
            data: data.clone().context("say where the examples are: --data FILE")?,
            eval: eval.clone(),
            rows: self.sample.rows.settings(),
        })
    }

    /// The part of the arms that is trained here, and where its results are written; all arms where there is none.
    pub(crate) fn shard(&self) -> Option<(Shard, &PathBuf)> {
        self.shards.shard.zip(self.shards.results.as_ref())
    }

    /// The folder to write plans into, if one is named.
    pub(crate) fn plans(&self) -> Option<&PathBuf> {
        self.files.plans.as_ref()
    }

    /// The file to draw the picture in, if one is named.
    pub(crate) fn picture(&self) -> Option<&PathBuf> {
        self.files.picture.as_ref()
    }

    /// The share of rows that is held back, and the seed that says which.
    pub(crate) fn held_out(&self) -> (f64, u64) {
        (self.trained.held_out, self.sample.seed)
    }

    /// The strategies, each of them once, and the methods that each is trained by.
    pub(crate) fn arms(&self) -> anyhow::Result<Vec<(Strategy, Vec<ArmMethod>)>> {
        let ComparedArguments { strategies, methods, only, rank } = &self.compared;
        let twice = strategies.iter().enumerate().find(|(index, strategy)| strategies[..*index].contains(strategy));
        if let Some((_, strategy)) = twice {
            bail!("--strategies: {strategy} is there twice");
        }
        let of = |names: &[MethodName]| -> Vec<ArmMethod> {
            let method = |name: &MethodName| match name {
                MethodName::Full => ArmMethod::Full,
                MethodName::Lora => ArmMethod::Lora { rank: *rank },
            };
            [MethodName::Full, MethodName::Lora].iter().filter(|name| names.contains(name)).map(method).collect()
        };
        let both = [MethodName::Full, MethodName::Lora];
        let named = strategies.iter().filter(|strategy| *only || **strategy != Strategy::All);
        let mut arms: Vec<_> = named.map(|strategy| (strategy.clone(), of(methods))).collect();
        if !only {
            arms.push((Strategy::All, of(&both)));
        }
        Ok(arms)
    }

    /// What plans are made of beside the planner's settings.
    pub(crate) fn evidence(&self) -> Evidence {
        let CompareSettings { budget, training, .. } = self.settings();
        Evidence {
            traces: None,
            gradients: self.compute.gradients(),
            records_gradients: false,
            probes: ProbeSettings {
                horizon: match budget {
                    Budget::Steps(steps) => Horizon::Steps(steps),
                    Budget::Seconds(_) => Horizon::Epochs(1.0),
                },
                share: ProbeSettings::SHARE,
                aim: match budget {
                    Budget::Steps(_) => Aim::Cheapest { tolerance: None },
                    Budget::Seconds(seconds) => Aim::Seconds(seconds),
                },
                training,
            },
        }
    }

    /// The planner's settings for one of the strategies.
    pub(crate) fn planning(&self, strategy: &Strategy) -> anyhow::Result<PlanSettings> {
        let JobFiles { model, data, .. } = self.files()?;
        Ok(PlanSettings {
            onnx: self.engine.onnx.clone(),
            strategy: strategy.clone(),
            engine: self.engine.choice_for(strategy, self.compute.device)?,
            threads: self.compute.threads,
            examples: self.sample.examples.0,
            seed: self.sample.seed,
            rows: self.sample.rows.settings(),
            cache: self.cache.store(),
            ..PlanSettings::new(model, data)
        })
    }

    /// The defaults of `frostline train`, within the budget.
    pub(crate) fn settings(&self) -> CompareSettings {
        let TrainedArguments { budget, learning_rates, seeds, batch_size, .. } = &self.trained;
        let training = TrainingSettings {
            batch_size: *batch_size,
            max_length: self.sample.rows.settings().max_length(),
            seed: self.sample.seed,
            ..DEFAULTS
        };
        CompareSettings {
            budget: match *budget {
                StepsOrSeconds { seconds: Some(seconds), .. } => Budget::Seconds(seconds),
                StepsOrSeconds { steps, .. } => Budget::Steps(steps.unwrap_or(DEFAULTS.steps)),
            },
            rates: match learning_rates {
                RatesOrAuto::Auto => Rates::Auto,
                RatesOrAuto::These(rates) => Rates::These(rates.clone()),
            },
            seeds: *seeds,
            training: TrainSettings {
                device: self.compute.device,
                threads: self.compute.threads,
                cache: self.cache.settings(),
                ..TrainSettings::new(training)
            },
        }
    }
}
