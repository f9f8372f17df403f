//! `frostline compare`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::anyhow;
use frostline_planner::Strategy;
use frostline_runtime::compare::{
    Arm, ArmMethod, ArmResult, CompareSettings, Comparison, ResultsOrigin, ShardResults, Verdict,
};
use frostline_schemas::{files, plan};
use serde_json::json;

use super::planning;
use crate::arguments::CompareArguments;
use crate::output::Output;
use crate::progress::ComparisonProgress;
use crate::render::units::plural;
use crate::render::{arms, picture};

pub(crate) fn run(arguments: &CompareArguments, output: &Output) -> anyhow::Result<()> {
    if let Some(files) = &arguments.shards.from_results {
        check_picture(arguments)?;
        let (origin, results) = ShardResults::merge(files)?;
        return show(arguments, &origin, &results, output);
    }
    let methods = arguments.arms()?;
    let strategies: Vec<Strategy> = methods.iter().map(|(strategy, _)| strategy.clone()).collect();
    // What would be in a file's way is found before anything is computed.
    let paths = arguments.plans().map(|folder| plan::places_in(folder, &strategies)).transpose()?;
    check_picture(arguments)?;
    if let Some((_, path)) = arguments.shard() {
        ShardResults::check_place(path)?;
    }
    // What is wrong with the rows is said before anything is planned.
    let (share, seed) = arguments.held_out();
    let mut comparison = Comparison::open(&arguments.files()?, share, seed)?;
    let arms = planned(arguments, methods, paths, output)?;

    let settings = arguments.settings();
    let origin = comparison.origin(&arms, &settings);
    match arguments.shard() {
        Some((shard, path)) => {
            let own: Vec<&Arm> = shard.deal(&arms).collect();
            let begun = Instant::now();
            let trained = trained(&mut comparison, &own, &settings, output)?;
            let results = ShardResults::new(shard, origin, settings.threads(), trained);
            results.write(path)?;
            show_shard(path, &results, begun.elapsed().as_secs_f64(), output)
        }
        None => {
            let results = trained(&mut comparison, &arms.iter().collect::<Vec<&Arm>>(), &settings, output)?;
            show(arguments, &origin, &results, output)
        }
    }
}

/// Refuses a place where the picture cannot be written.
fn check_picture(arguments: &CompareArguments) -> anyhow::Result<()> {
    match arguments.picture() {
        Some(path) if path.is_file() && !picture::is_at(path) => {
            Err(anyhow!("{}: is there already and is no picture; name another place or remove it", path.display()))
        }
        Some(path) => files::check_place(path).map_err(|error| anyhow!("{}: {error}", path.display())),
        None => Ok(()),
    }
}

/// Trains arms, one after the other.
fn trained(
    comparison: &mut Comparison,
    arms: &[&Arm],
    settings: &CompareSettings,
    output: &Output,
) -> anyhow::Result<Vec<ArmResult>> {
    let mut progress = ComparisonProgress::new(output, arms.len());
    let mut results = Vec::new();
    for arm in arms {
        results.push(comparison.train(arm, settings, &mut progress)?);
        progress.arm_done();
    }
    Ok(results)
}

/// Draws the picture and prints the comparison.
fn show(
    arguments: &CompareArguments,
    origin: &ResultsOrigin,
    results: &[ArmResult],
    output: &Output,
) -> anyhow::Result<()> {
    if let Some(path) = arguments.picture() {
        files::write_bytes(path, picture::draw(results).as_bytes())
            .map_err(|error| anyhow!("{}: {error}", path.display()))?;
    }
    let verdict = Verdict::of(results);
    output.result(&arms::to_json(results, origin, verdict.as_ref()), || arms::render(results, origin, verdict.as_ref()))
}

/// Says what one machine of several has trained.
fn show_shard(path: &Path, results: &ShardResults, seconds: f64, output: &Output) -> anyhow::Result<()> {
    let ShardResults { shard, arms, origin, .. } = results;
    let names: Vec<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
    let summary = json!({
        "results": path,
        "shard": shard,
        "arms": names,
        "all_arms": origin.arms.len(),
        "seconds": seconds,
    });
    output.result(&summary, || {
        let named = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
        format!(
            "{}: shard {shard}, {} of {} in {seconds:.1} s{named}\n",
            path.display(),
            arms.len(),
            plural(origin.arms.len(), "arm")
        )
    })
}

/// The arms with their plans, each strategy planned once.
fn planned(
    arguments: &CompareArguments,
    methods: Vec<(Strategy, Vec<ArmMethod>)>,
    paths: Option<Vec<PathBuf>>,
    output: &Output,
) -> anyhow::Result<Vec<Arm>> {
    let mut planned = Vec::new();
    for (strategy, methods) in methods {
        let plan = planning::plan(&arguments.planning(&strategy)?, &arguments.evidence(), output)?.0.plan;
        planned.push((plan, methods));
    }
    for (path, (plan, _)) in paths.iter().flatten().zip(&planned) {
        plan.write(path)?;
    }
    let arms = |(plan, methods): (plan::Plan, Vec<_>)| {
        methods.into_iter().map(move |method| Arm::new(plan.clone(), method)).collect::<Vec<Arm>>()
    };
    Ok(planned.into_iter().flat_map(arms).collect())
}
