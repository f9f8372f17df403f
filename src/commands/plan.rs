//! `frostline plan`.

use std::path::Path;
use std::time::Instant;

use frostline_planner::{Planned, SampleShard, ShardTraces, TracesError};
use frostline_schemas::plan::{self, Plan, PlanError};
use serde_json::json;

use crate::arguments::{PlanArguments, ShardArguments};
use crate::output::Output;
use crate::progress::PlanningProgress;
use crate::render::units::count;

pub(crate) fn run(arguments: &PlanArguments, output: &Output) -> anyhow::Result<()> {
    match (&arguments.shards, &arguments.files.out) {
        (ShardArguments { shard: Some(shard), traces: Some(traces), .. }, _) => {
            run_shard(arguments, *shard, traces, output)
        }
        (_, Some(out)) => run_plan(arguments, out, output),
        // The flags' own rules leave no such case.
        _ => anyhow::bail!("say where to write the plan: --out FILE"),
    }
}

/// Makes a plan, by running the model or of shards' traces.
fn run_plan(arguments: &PlanArguments, out: &Path, output: &Output) -> anyhow::Result<()> {
    refuse_to_write_over(out)?;
    let settings = arguments.settings()?;
    if settings.per_example {
        plan::free_beside(out)?;
    }
    let begun = Instant::now();
    let progress = PlanningProgress::new(output);
    let files = arguments.shards.from_traces.as_deref();
    let Planned { plan, example_frost_lines } = match files {
        Some(files) => frostline_planner::plan_from_traces(&settings, files, &progress)?,
        None => frostline_planner::plan(&settings, &progress)?,
    };
    let steps = progress.finish();
    plan.write_with(out, example_frost_lines.as_ref())?;
    let seconds = begun.elapsed().as_secs_f64();
    let shards = files.map(<[_]>::len);
    // Of a model that ran elsewhere this machine's clock says nothing.
    let speed = steps.get("running").map(|running| plan.data.tokens as f64 / running);
    let summary = json!({
        "plan": out,
        "id": plan.id,
        "strategy": plan.method.strategy,
        "frost_line": plan.decision.frost_line,
        "per_example": plan.decision.per_example,
        "layers": plan.model.layers,
        "tensors": plan.tensors.len(),
        "trained_parameters": plan.trained_parameters(),
        "engine": plan.engine,
        "shards": shards,
        "seconds": seconds,
        "seconds_of_steps": steps,
        "tokens_per_second": speed,
    });
    output.result(&summary, || {
        let chosen = format!(
            "{}: frost line {} of {} layers; {} tensors, {} parameters to train\n",
            out.display(),
            plan.decision.frost_line,
            plan.model.layers,
            plan.tensors.len(),
            count(plan.trained_parameters() as f64)
        );
        let time = shards.map_or_else(|| format!("in {seconds:.1} s"), |shards| format!("from {shards} shards"));
        let made = match &plan.engine {
            Some(engine) => format!(
                "{} examples ({} tokens) {time} with {} on {}{}",
                plan.data.examples,
                plan.data.tokens,
                engine.name,
                engine.provider,
                speed.map_or_else(String::new, |speed| format!(", {speed:.0} tokens/s"))
            ),
            None => format!("strategy {} {time}", plan.method.strategy),
        };
        format!("{chosen}{made}\nid {}\n", plan.id)
    })
}

/// Computes one shard's traces.
fn run_shard(arguments: &PlanArguments, shard: SampleShard, out: &Path, output: &Output) -> anyhow::Result<()> {
    if out.is_file() && matches!(ShardTraces::read(out), Err(TracesError::NotTraces { .. })) {
        anyhow::bail!("{}: is there already and holds no traces; name another place or remove it", out.display());
    }
    let begun = Instant::now();
    let progress = PlanningProgress::new(output);
    let found = frostline_planner::trace_shard(&arguments.settings()?, shard, &progress)?;
    let steps = progress.finish();
    found.write(out)?;
    let seconds = begun.elapsed().as_secs_f64();
    let (examples, engine) = (found.traces.len(), &found.origin.engine);
    let summary = json!({
        "traces": out,
        "shard": shard,
        "examples": examples,
        "sample": found.origin.data.examples,
        "layers": found.origin.model.layers,
        "engine": engine,
        "seconds": seconds,
        "seconds_of_steps": steps,
    });
    output.result(&summary, || {
        format!(
            "{}: shard {shard}, {examples} of {} examples in {seconds:.1} s with {} on {}\n",
            out.display(),
            found.origin.data.examples,
            engine.name,
            engine.provider
        )
    })
}

/// A plan may take the place of a plan, even of one that somebody has changed, not of data, a config or weights.
pub(crate) fn refuse_to_write_over(out: &Path) -> anyhow::Result<()> {
    if out.is_dir() {
        anyhow::bail!("{}: is a folder; name a file in it", out.display());
    }
    let is_plan = || matches!(Plan::read(out), Ok(_) | Err(PlanError::Changed { .. } | PlanError::Inconsistent { .. }));
    if out.is_file() && !is_plan() {
        anyhow::bail!(
            "{}: is there already and is no plan of this version; name another place or remove it",
            out.display()
        );
    }
    Ok(())
}
