//! `frostline compare`.

use std::path::PathBuf;

use anyhow::anyhow;
use frostline_planner::Strategy;
use frostline_runtime::compare::{Arm, Comparison, Verdict};
use frostline_schemas::{files, plan};

use crate::arguments::CompareArguments;
use crate::output::Output;
use crate::progress::{ComparisonProgress, PlanningProgress};
use crate::render::{arms, picture};

pub(crate) fn run(arguments: &CompareArguments, output: &Output) -> anyhow::Result<()> {
    let methods = arguments.arms()?;
    let strategies: Vec<Strategy> = methods.iter().map(|(strategy, _)| strategy.clone()).collect();
    // What would be in a file's way is found before anything is computed.
    let paths = arguments.plans().map(|folder| plan::places_in(folder, &strategies)).transpose()?;
    if let Some(path) = arguments.picture() {
        files::check_place(path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    }
    // What is wrong with the rows is said before anything is planned.
    let (share, seed) = arguments.held_out();
    let mut comparison = Comparison::open(&arguments.files(), share, seed)?;
    let arms = planned(arguments, methods, paths, output)?;

    let settings = arguments.settings();
    let mut progress = ComparisonProgress::new(output, arms.len());
    let mut results = Vec::new();
    for arm in &arms {
        results.push(comparison.train(arm, &settings, &mut progress)?);
        progress.arm_done();
    }
    if let Some(path) = arguments.picture() {
        files::write_bytes(path, picture::draw(&results).as_bytes())
            .map_err(|error| anyhow!("{}: {error}", path.display()))?;
    }
    let verdict = Verdict::of(&results);
    output.result(&arms::to_json(&results, comparison.rows(), &settings, verdict.as_ref()), || {
        arms::render(&results, comparison.rows(), &settings, verdict.as_ref())
    })
}

/// The arms with their plans, each strategy planned once.
fn planned(
    arguments: &CompareArguments,
    methods: Vec<(Strategy, Vec<frostline_runtime::compare::ArmMethod>)>,
    paths: Option<Vec<PathBuf>>,
    output: &Output,
) -> anyhow::Result<Vec<Arm>> {
    let mut planned = Vec::new();
    for (strategy, methods) in methods {
        let plan = frostline_planner::plan(&arguments.planning(&strategy)?, &PlanningProgress::new(output))?.plan;
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
