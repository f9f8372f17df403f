//! `frostline train`.

use std::collections::VecDeque;
use std::sync::Arc;

use frostline_runtime::cache;
use frostline_runtime::cache::source::{CacheSettings, Using};
use frostline_runtime::data::steps_of_epochs;
use frostline_runtime::model::adapters;
use frostline_runtime::model::parameters::ComputePrecision;
use frostline_runtime::run::job::{Files, Finished, Job};
use frostline_runtime::train::dry_run::Rehearsal;
use frostline_runtime::train::{Observer, Start, TrainSettings};
use frostline_schemas::model::DecoderConfig;
use frostline_schemas::plan::ExampleFrostLines;
use frostline_schemas::plan::Plan;
use frostline_schemas::run::{Lora, Order, Schedule, StepMetrics, TrainingMethod, TrainingSettings};
use serde_json::{Value as Json, json};

use super::eval;
use crate::arguments::{
    CacheArguments, CachePlace, LoraArguments, MethodName, OrderName, PrecisionName, ScheduleName, TrainArguments,
};
use crate::output::Output;
use crate::progress::Bar;
use crate::render;
use crate::render::plan::count;

/// Of adapters, where not given.
const RANK: usize = 16;
const ALPHA: f64 = 32.0;

pub fn run(arguments: &TrainArguments, output: &Output) -> anyhow::Result<()> {
    let plan = Plan::read(&arguments.plan)?;
    let job = Job::open(&Files {
        model: arguments.model.clone(),
        data: arguments.data.clone(),
        eval: arguments.eval.clone(),
        max_length: arguments.max_length,
    })?;
    let depths = ExampleFrostLines::of_plan(&plan, &arguments.plan)?.map(Arc::new);
    let depths = depths.zip(plan.decision.per_example.map(|examples| examples.others));
    if let Some((depths, others)) = &depths {
        job.check_depths(&plan, depths, *others)?;
    }
    let settings = TrainSettings {
        depths,
        ..settings(arguments, method(arguments, job.config(), &plan.tensors)?, job.examples())?
    };
    if arguments.dry_run {
        let rehearsal = job.rehearse(&plan, &settings)?;
        return output.result(&rehearsal_json(&rehearsal), || rehearsal_text(&rehearsal));
    }
    let mut watch = Watch::new(output);
    let finished = job.run_into(&arguments.out, &plan, &settings, &mut watch)?;
    report(arguments, output, &plan, &settings, &watch, &finished)
}

fn method(arguments: &TrainArguments, config: &DecoderConfig, planned: &[String]) -> anyhow::Result<TrainingMethod> {
    let LoraArguments { rank, alpha, targets } = &arguments.lora;
    match arguments.method {
        MethodName::Full if rank.is_some() || alpha.is_some() || targets.is_some() => {
            anyhow::bail!(
                "--rank, --alpha and --targets say what adapters are like; add --method lora or leave them out"
            )
        }
        MethodName::Full => Ok(TrainingMethod::Full),
        MethodName::Lora => Ok(TrainingMethod::Lora(Lora {
            rank: rank.unwrap_or(RANK),
            alpha: alpha.unwrap_or(ALPHA),
            targets: match targets.as_deref() {
                Some(names) if names != ["all"] => names.to_vec(),
                _ => adapters::target_names(config, planned),
            },
        })),
    }
}

fn settings(arguments: &TrainArguments, method: TrainingMethod, examples: usize) -> anyhow::Result<TrainSettings> {
    let rows_a_step = arguments.batch_size.saturating_mul(arguments.accumulation);
    let steps = match (arguments.length.steps, arguments.length.epochs) {
        (Some(steps), _) => steps,
        (None, epochs) => steps_of_epochs(epochs.unwrap_or(1.0), examples, rows_a_step),
    };
    Ok(TrainSettings {
        training: TrainingSettings {
            method,
            steps,
            batch_size: arguments.batch_size,
            accumulation: arguments.accumulation,
            learning_rate: arguments.learning_rate,
            schedule: match arguments.schedule {
                ScheduleName::Constant => Schedule::Constant,
                ScheduleName::Linear => Schedule::Linear,
                ScheduleName::Cosine => Schedule::Cosine,
            },
            warmup_steps: arguments.warmup_steps,
            weight_decay: arguments.weight_decay,
            gradient_clip: arguments.gradient_clip.0,
            max_length: arguments.max_length,
            order: match arguments.order {
                OrderName::Shuffle => Order::Shuffle,
                OrderName::Length => Order::Length,
                OrderName::File => Order::File,
            },
            seed: arguments.seed,
        },
        device: arguments.compute.device,
        precision: arguments.precision.map(|precision| match precision {
            PrecisionName::F32 => ComputePrecision::F32,
            PrecisionName::Bf16 => ComputePrecision::Bf16,
        }),
        recompute: arguments.recompute,
        cache: cache_settings(&arguments.cache),
        depths: None,
        threads: arguments.compute.threads,
    })
}

fn rehearsal_json(rehearsal: &Rehearsal) -> Json {
    let Start { frost_line, trained_tensors, trained_parameters, steps } = rehearsal.start;
    json!({
        "frost_line": frost_line,
        "trained_tensors": trained_tensors,
        "trained_parameters": trained_parameters,
        "steps": steps,
        "step_seconds": rehearsal.step_seconds,
        "cached_step_seconds": rehearsal.cached_step_seconds(),
        "largest_tokens": rehearsal.largest_tokens,
        "peak_bytes": rehearsal.peak_bytes,
    })
}

fn rehearsal_text(rehearsal: &Rehearsal) -> String {
    let Start { frost_line, trained_tensors, trained_parameters, steps } = rehearsal.start;
    let parameters = count(trained_parameters as f64);
    let (step, cached) = (rehearsal.step_seconds, rehearsal.cached_step_seconds());
    let (all, all_cached) = (step * steps as f64, cached * steps as f64);
    let peak = rehearsal.peak_bytes.map_or_else(|| "not known here".into(), render::plan::bytes);
    format!(
        "would train {trained_tensors} tensors ({parameters} parameters) above frost line {frost_line} for {steps} steps\n\
         step         {step:.2} s; {cached:.2} s from a cache of the state at the frost line\n\
         all steps    {all:.0} s; {all_cached:.0} s from a cache\n\
         peak memory  {peak}, at the largest step's {} tokens\n",
        rehearsal.largest_tokens
    )
}

/// Without a folder named, the cache is used where it pays.
fn cache_settings(arguments: &CacheArguments) -> Option<CacheSettings> {
    let (root, using) = match &arguments.place.cache {
        Some(CachePlace::Off) => return None,
        Some(CachePlace::Folder(folder)) => (folder.clone(), Using::Always),
        None => match cache::default_root() {
            Ok(root) => (root, Using::WherePaying),
            Err(error) => {
                tracing::warn!("states at the frost line are not cached: {error}");
                return None;
            }
        },
    };
    Some(CacheSettings { root, limit: arguments.cache_limit, using })
}

fn report(
    arguments: &TrainArguments,
    output: &Output,
    plan: &Plan,
    settings: &TrainSettings,
    watch: &Watch,
    finished: &Finished,
) -> anyhow::Result<()> {
    let (first, last) = (watch.first_loss.unwrap_or(f64::NAN), watch.last_loss());
    let Finished { frost_line, trained_parameters, seconds, evaluation, .. } = finished;
    let speed = watch.tokens as f64 / seconds;
    let summary = json!({
        "run": arguments.out,
        "plan": plan.id,
        "frost_line": frost_line,
        "trained_parameters": trained_parameters,
        "steps": settings.training.steps,
        "first_loss": first,
        "last_loss": last,
        "seconds": seconds,
        "tokens_per_second": speed,
        "median_step_seconds": watch.median_step_seconds(),
        "mean_frost_line": watch.mean_frost_line(),
        "evaluation": evaluation.as_ref().map(eval::to_json),
    });
    output.result(&summary, || {
        let trained = format!(
            "{}: {} parameters trained in {} steps, {seconds:.1} s ({speed:.0} tokens/s); loss {first:.4} → {last:.4} (mean of the last {})\n",
            arguments.out.display(),
            count(*trained_parameters as f64),
            settings.training.steps,
            watch.recent.len()
        );
        let depth = watch.mean_frost_line().map_or_else(String::new, |mean| format!("steps began above frost line {mean:.1} on average\n"));
        trained + &depth + &evaluation.as_ref().map(eval::to_text).unwrap_or_default()
    })
}

/// Follows training: a bar for people, the losses for the report.
pub struct Watch {
    bar: Bar,
    steps: u64,
    tokens: u64,
    first_loss: Option<f64>,
    recent: VecDeque<f64>,
    seconds: Vec<f64>,
    /// Frost lines of steps, where they differ.
    frost_lines: Vec<usize>,
}

/// Steps whose mean loss is reported as the last.
const RECENT: usize = 20;

impl Watch {
    pub fn new(output: &Output) -> Watch {
        let bar = Bar::new(output, "training");
        Watch {
            bar,
            steps: 0,
            tokens: 0,
            first_loss: None,
            recent: VecDeque::new(),
            seconds: Vec::new(),
            frost_lines: Vec::new(),
        }
    }

    /// Seconds of a usual step: the first takes its memory, and some are disturbed.
    pub fn median_step_seconds(&self) -> f64 {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Mean frost line of the steps, where they differ.
    fn mean_frost_line(&self) -> Option<f64> {
        let steps = self.frost_lines.len();
        (steps > 0).then(|| self.frost_lines.iter().sum::<usize>() as f64 / steps as f64)
    }

    /// Mean loss of the last steps.
    pub fn last_loss(&self) -> f64 {
        self.recent.iter().sum::<f64>() / self.recent.len() as f64
    }
}

impl Observer for Watch {
    fn started(&mut self, start: &Start) -> Result<(), frostline_runtime::Error> {
        self.steps = start.steps;
        tracing::info!(
            "training {} tensors ({} parameters) above frost line {} for {} steps",
            start.trained_tensors,
            count(start.trained_parameters as f64),
            start.frost_line,
            start.steps
        );
        Ok(())
    }

    fn caching(&mut self, done: usize, all: usize, bytes: u64) -> Result<(), frostline_runtime::Error> {
        if done == 0 {
            tracing::info!("caching the state at the frost line of {all} rows, {} on disk", render::plan::bytes(bytes));
        }
        self.bar.say("caching");
        self.bar.set(done as u64, all as u64, "rows".into());
        Ok(())
    }

    fn step(&mut self, metrics: &StepMetrics) -> Result<(), frostline_runtime::Error> {
        self.bar.say("training");
        self.tokens += metrics.tokens;
        self.seconds.push(metrics.seconds);
        self.frost_lines.extend(metrics.frost_line);
        self.first_loss.get_or_insert(metrics.loss);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(metrics.loss);
        self.bar.set(metrics.step, self.steps, format!("loss {:.4}", metrics.loss));
        Ok(())
    }
    fn evaluating(&mut self, done: usize, all: usize) {
        self.bar.say("evaluating");
        self.bar.set(done as u64, all as u64, "rows".into());
    }
}
