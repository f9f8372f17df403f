//! `frostline train`.

use std::path::Path;

use frostline_runtime::run::{Finished, Job, RunWriter};
use frostline_runtime::train::{DryRun, FrostLines, Start, Summary, TrainSettings};
use frostline_schemas::plan::Plan;
use serde_json::{Value as Json, json};

use crate::arguments::TrainArguments;
use crate::output::Output;
use crate::progress::TrainingProgress;
use crate::render::evaluation;
use crate::render::units::{bytes, count, plural};

pub(crate) fn run(arguments: &TrainArguments, output: &Output) -> anyhow::Result<()> {
    if let Some(folder) = arguments.run_folder() {
        RunWriter::check_place(folder)?;
    }
    let plan = Plan::read(&arguments.files.plan)?;
    let mut progress = TrainingProgress::new(output, arguments.shown.log_every);
    let job = Job::open(&arguments.files(&plan)?)?;
    let frost_lines = FrostLines::of_plan(&plan, &arguments.files.plan)?;
    let settings = TrainSettings { frost_lines, ..arguments.settings(&job, &plan)? };
    if let Some(origin) = arguments.planned_rate_origin(&plan) {
        tracing::info!("learning rate {:e}, as planned: {origin}", settings.training.learning_rate);
    }
    let Some(folder) = arguments.run_folder() else {
        progress.measure();
        let measured = job.dry_run(&plan, &settings, &mut ())?;
        drop(progress);
        return output.result(&dry_run_json(&measured), || dry_run_text(&measured));
    };
    progress.load();
    let finished = job.run_into(folder, &plan, &settings, &mut progress)?;
    report(output, folder, &plan, &settings, &progress.finish(), &finished)
}

fn dry_run_json(measured: &DryRun) -> Json {
    let Start { frost_line, trained_tensors, trained_parameters, steps, .. } = measured.start;
    json!({
        "frost_line": frost_line,
        "trained_tensors": trained_tensors,
        "trained_parameters": trained_parameters,
        "steps": steps,
        "step_seconds": measured.step_seconds,
        "cached_step_seconds": measured.cached_step_seconds(),
        "largest_tokens": measured.largest_tokens,
        "peak_bytes": measured.peak_bytes,
    })
}

fn dry_run_text(measured: &DryRun) -> String {
    let Start { frost_line, trained_tensors, trained_parameters, steps, .. } = measured.start;
    let parameters = count(trained_parameters as f64);
    let (step, cached) = (measured.step_seconds, measured.cached_step_seconds());
    let (all, all_cached) = (step * steps as f64, cached * steps as f64);
    let (tensors, steps) = (plural(trained_tensors, "tensor"), plural(steps, "step"));
    let peak = measured.peak_bytes.map_or_else(|| "not known here".into(), bytes);
    format!(
        "would train {tensors} ({parameters} parameters) above frost line {frost_line} for {steps}\n\
         step         {step:.2} s; {cached:.2} s from a cache of the state at the frost line\n\
         all steps    {all:.0} s; {all_cached:.0} s from a cache\n\
         peak memory  {peak}, at the largest step's {} tokens\n",
        measured.largest_tokens
    )
}

fn report(
    output: &Output,
    folder: &Path,
    plan: &Plan,
    settings: &TrainSettings,
    seen: &Summary,
    finished: &Finished,
) -> anyhow::Result<()> {
    let (first, last) = (seen.first_loss(), seen.last_loss());
    let Finished { frost_line, trained_parameters, seconds, evaluation, .. } = finished;
    let speed = seen.tokens() as f64 / seconds;
    let summary = json!({
        "run": folder,
        "plan": plan.id,
        "frost_line": frost_line,
        "trained_parameters": trained_parameters,
        "steps": settings.training.steps,
        "learning_rate": settings.training.learning_rate,
        "first_loss": first,
        "last_loss": last,
        "seconds": seconds,
        "tokens_per_second": speed,
        "median_step_seconds": seen.median_step_seconds(),
        "mean_frost_line": seen.mean_frost_line(),
        "evaluation": evaluation.as_ref().map(evaluation::to_json),
    });
    output.result(&summary, || {
        let trained = format!(
            "{}: {} parameters trained in {}, {seconds:.1} s ({speed:.0} tokens/s)\n\
             loss {first:.4} → {last:.4} (mean of the last {})\n",
            folder.display(),
            count(*trained_parameters as f64),
            plural(settings.training.steps, "step"),
            seen.recent().len()
        );
        let depth = seen
            .mean_frost_line()
            .map_or_else(String::new, |mean| format!("steps began above frost line {mean:.1} on average\n"));
        trained + &depth + &evaluation.as_ref().map(evaluation::to_text).unwrap_or_default()
    })
}
