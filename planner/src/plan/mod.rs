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
use frostline_schemas::plan::{check_place, free_beside};
use frostline_schemas::select::Strategy;

use self::decide::Planned;
use self::settings::PlanSettings;
use self::task::PlanningTask;
use crate::batch::shard::SampleShard;
use crate::error::Result;
use crate::progress::{Progress, Stage, on_threads};
use crate::salf::example_traces::in_order;
use crate::traces::file::ShardTraces;
use crate::traces::merge;

/// Makes a plan.
///
/// # Errors
/// [`Error::Setting`](crate::Error::Setting) for settings that make no sense; else for the first of what is read that
/// cannot be used: model folder, examples, export ([`Error::OtherModel`](crate::Error::OtherModel) where it is another
/// model's), engine; [`Error::Budget`](crate::Error::Budget) where no frost line fits it.
pub fn plan(settings: &PlanSettings, progress: &dyn Progress) -> Result<Planned> {
    settings.check()?;
    if settings.strategy != Strategy::Salf {
        settings.check_rule()?;
        return on_threads(settings.threads, progress, |progress| {
            decide::without_examples(settings, read(settings, progress)?, progress)
        });
    }
    run::load_engine(settings)?;
    on_threads(settings.threads, progress, |progress| {
        let (task, found) = run::trace(settings, SampleShard::WHOLE, progress)?;
        let traces = in_order(task.examples.len(), found.traces);
        decide::from_traces(settings, task, found.origin, &traces)
    })
}

/// Computes the traces of one shard of the sample: what one machine of several does for a plan.
///
/// # Errors
/// As for [`plan()`], and [`Error::Setting`](crate::Error::Setting) for a strategy that has no traces.
pub fn trace_shard(settings: &PlanSettings, shard: SampleShard, progress: &dyn Progress) -> Result<ShardTraces> {
    settings.check()?;
    settings.check_runs()?;
    run::load_engine(settings)?;
    on_threads(settings.threads, progress, |progress| Ok(run::trace(settings, shard, progress)?.1))
}

/// Makes the plan of all shards' traces, the very one that [`plan()`] makes on one machine. No model is run: the settings
/// `onnx` and `engine` do not matter.
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
        let (origin, traces) = merge::merge(files, &task.expected_traces(settings))?;
        decide::from_traces(settings, task, origin, &traces)
    })
}

/// Makes a plan and writes it to `out`, with the frost lines of its examples beside it where the settings ask for them:
/// by [`plan_from_traces`] where all shards' `traces` are given, else by [`plan()`].
///
/// # Errors
/// As for both; [`Error::PlanFiles`](crate::Error::PlanFiles) where the files cannot be written, if possible before
/// anything is computed.
pub fn plan_into(
    out: &Path,
    settings: &PlanSettings,
    traces: Option<&[PathBuf]>,
    progress: &dyn Progress,
) -> Result<Planned> {
    check_place(out)?;
    if settings.per_example {
        free_beside(out)?;
    }
    let planned = match traces {
        Some(files) => plan_from_traces(settings, files, progress)?,
        None => plan(settings, progress)?,
    };
    planned.plan.write_with(out, planned.example_frost_lines.as_ref())?;
    Ok(planned)
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

fn read(settings: &PlanSettings, progress: &dyn Progress) -> Result<PlanningTask> {
    progress.begin(Stage::Reading, 0);
    PlanningTask::read(settings, ModelFolder::open(&settings.model)?)
}
