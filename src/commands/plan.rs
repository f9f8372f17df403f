//! `frostline plan`.

use std::path::Path;
use std::time::Instant;

use frostline_planner::{Planned, SampleShard};
use frostline_schemas::plan::PlanPlace;
use serde_json::json;

use super::planning;
use crate::arguments::{PlanArguments, ShardArguments};
use crate::output::Output;
use crate::progress::PlanningProgress;
use crate::render::units::{count, layers, plural};

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
    let begun = Instant::now();
    let (settings, evidence) = (arguments.settings()?, arguments.evidence());
    let place = PlanPlace::free(out, settings.per_example)?;
    let (Planned { plan, example_frost_lines }, steps) = planning::plan(&settings, &evidence, output)?;
    place.write(&plan, example_frost_lines.as_ref())?;
    let seconds = begun.elapsed().as_secs_f64();
    let shards = evidence.traces.as_ref().map(Vec::len);
    // Of a model that ran elsewhere this machine's clock says nothing.
    let speed = steps.get("running").map(|running| plan.data.tokens as f64 / running);
    let summary = json!({
        "plan": out,
        "id": plan.id,
        "strategy": plan.method.strategy,
        "frost_line": plan.decision.frost_line,
        "stability": plan.decision.stability,
        "examples": plan.data.examples,
        "per_example": plan.decision.per_example,
        "layers": plan.model.layers,
        "tensors": plan.tensors.len(),
        "trained_parameters": plan.trained_parameters(),
        "learning_rate": plan.learning_rate,
        "engine": plan.engine,
        "shards": shards,
        "seconds": seconds,
        "seconds_of_steps": steps,
        "tokens_per_second": speed,
    });
    output.result(&summary, || {
        let chosen = format!(
            "{}: frost line {} of {}; {}, {} parameters to train\n",
            out.display(),
            plan.decision.frost_line,
            layers(plan.model.layers),
            plural(plan.tensors.len(), "tensor"),
            count(plan.trained_parameters() as f64)
        );
        let time =
            shards.map_or_else(|| format!("in {seconds:.1} s"), |shards| format!("from {}", plural(shards, "shard")));
        let made = match &plan.engine {
            Some(engine) => format!(
                "{} ({}) {time} with {} on {}{}",
                plural(plan.data.examples, "example"),
                plural(plan.data.tokens, "token"),
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
    let begun = Instant::now();
    let progress = PlanningProgress::new(output);
    let found = frostline_planner::trace_shard_into(out, &arguments.settings()?, shard, &progress)?;
    let steps = progress.finish();
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
            "{}: shard {shard}, {examples} of {} in {seconds:.1} s with {} on {}\n",
            out.display(),
            plural(found.origin.data.examples, "example"),
            engine.name,
            engine.provider
        )
    })
}
