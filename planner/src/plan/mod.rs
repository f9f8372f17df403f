//! From settings to a plan, step by step: examples → traces → gains → frost line → plan.
//!
//! One machine does all of it ([`plan()`]); or several compute the traces of a shard each ([`trace_shard`]), and any one
//! makes the plan of them ([`plan_from_traces`]).
//!
//! SALF, re-derived (arXiv 2406.11753): see the [crate].

pub(crate) mod decide;
mod run;
pub(crate) mod settings;
mod task;

use std::path::{Path, PathBuf};

use frostline_schemas::model::ModelFolder;
use frostline_schemas::plan::PlanTask;
use frostline_schemas::select::Strategy;

use self::decide::Planned;
use self::run::Run;
use self::settings::PlanSettings;
use crate::batch::rounds;
use crate::batch::shard::{self, SampleShard};
use crate::error::Result;
use crate::progress::{Progress, Stage, on_threads};
use crate::salf::example_traces::{ExampleTrace, in_order};
use crate::traces::file::ShardTraces;
use crate::traces::merge::{self, ExpectedTraces};

/// Makes a plan.
///
/// # Errors
/// [`Error::Setting`](crate::Error::Setting) for settings that make no sense; else for the first of what is read that
/// cannot be used: model folder, examples, export ([`Error::OtherModel`](crate::Error::OtherModel) where it is another
/// model's), engine; [`Error::Budget`](crate::Error::Budget) where no frost line fits it.
pub fn plan(settings: &PlanSettings, progress: &dyn Progress) -> Result<Planned> {
    settings.check()?;
    if settings.strategy != Strategy::Salf {
        return on_threads(settings.threads, progress, |progress| {
            decide::without_examples(settings, read(settings, progress)?, progress)
        });
    }
    run::load_engine(settings)?;
    on_threads(settings.threads, progress, |progress| {
        let mut run = Run::open(settings, progress)?;
        let mut traces: Vec<ExampleTrace> = Vec::with_capacity(run.task.examples.len());
        progress.begin(Stage::Running, run.task.examples.len() as u64);
        for round in task::rounds(&run.task) {
            traces.extend(in_order(run.traces(round, progress)?));
            if settings.examples.is_none() && decide::is_enough(settings, &run.task, &traces)? {
                break;
            }
        }
        let origin = run.origin();
        decide::from_traces(settings, run.task.first(traces.len()), origin, &traces)
    })
}

/// Computes the traces of one shard of the sample: what one machine of several does for a plan. Where the number of examples
/// is left open the sample is the largest that [`plan()`] may read, since a shard alone cannot tell how many are needed.
///
/// # Errors
/// As for [`plan()`], and [`Error::Setting`](crate::Error::Setting) for a strategy that has no traces.
pub fn trace_shard(settings: &PlanSettings, shard: SampleShard, progress: &dyn Progress) -> Result<ShardTraces> {
    settings.check()?;
    settings.check_runs()?;
    run::load_engine(settings)?;
    on_threads(settings.threads, progress, |progress| {
        let mut run = Run::open(settings, progress)?;
        let own = shard::take(shard, &task::rounds(&run.task).concat());
        let total: usize = own.iter().flat_map(|group| &group.examples).map(Vec::len).sum();
        progress.begin(Stage::Running, total as u64);
        let traces = run.traces(own, progress)?;
        Ok(ShardTraces { origin: run.origin(), shard, traces })
    })
}

/// Makes the plan of all shards' traces, the very one that [`plan()`] makes on one machine: where the number of examples is
/// left open, too, it is of as many of them as that machine would have read. No model is run: the settings `onnx` and
/// `engine` do not matter.
///
/// # Errors
/// [`Error::Traces`](crate::Error::Traces) for files that are damaged, of something else, or not all shards; and as for
/// [`plan()`].
pub fn plan_from_traces(settings: &PlanSettings, files: &[PathBuf], progress: &dyn Progress) -> Result<Planned> {
    settings.check()?;
    settings.check_runs()?;
    on_threads(settings.threads, progress, |progress| {
        let task = read(settings, progress)?;
        settings.check_layers(task.folder.config.layers.len())?;
        let (origin, mut traces) = merge::merge(files, &expected_traces(settings, &task))?;
        if settings.examples.is_none() {
            traces.truncate(needed(settings, &task, &traces)?);
        }
        decide::from_traces(settings, task.first(traces.len()), origin, &traces)
    })
}

/// Computes the traces of one shard, as [`trace_shard`] does, and writes them to `out`.
///
/// # Errors
/// As for [`trace_shard`]; [`Error::Traces`](crate::Error::Traces) where the file cannot be written, if possible before
/// anything is computed.
pub fn trace_shard_into(
    out: &Path,
    settings: &PlanSettings,
    shard: SampleShard,
    progress: &dyn Progress,
) -> Result<ShardTraces> {
    ShardTraces::check_place(out)?;
    let traces = trace_shard(settings, shard, progress)?;
    traces.write(out)?;
    Ok(traces)
}

/// How many of a sample's examples, in whole rounds, it takes until the frost line is stable; all where it is not.
fn needed(settings: &PlanSettings, task: &PlanTask, traces: &[ExampleTrace]) -> Result<usize> {
    for round in rounds::rounds(traces.len()) {
        if decide::is_enough(settings, task, &traces[..round.end])? {
            return Ok(round.end);
        }
    }
    Ok(traces.len())
}

/// What traces must have been computed from to make a plan of this task.
fn expected_traces<'a>(settings: &'a PlanSettings, task: &'a PlanTask) -> ExpectedTraces<'a> {
    ExpectedTraces {
        model: &task.model,
        data: &task.data,
        latent_spaces: settings.latent_spaces.as_deref(),
        groups: task::rounds(task).concat(),
    }
}

fn read(settings: &PlanSettings, progress: &dyn Progress) -> Result<PlanTask> {
    progress.begin(Stage::Reading, 0);
    task::read(settings, ModelFolder::open(&settings.model)?)
}
