//! Plans by measured evidence: short trainings of several arms, and what they promise for a whole one.
//!
//! Arms are full training, a few frost lines spread by cost, and what other signals propose. The cheapest is trained
//! at several learning rates; the others then at the rate that follows for them. The most promising are trained for longer.
//! All are judged by their loss on rows held back, after as many steps of the same rows, over which the rate decays. What a
//! whole training gives follows by a power law of the steps (ours, as is all of it but the halving: Jamieson and Talwalkar
//! 2016, arXiv 1502.07943).

mod arms;
mod budget;
mod choice;
mod forecast;
mod outcome;
mod process;
mod settings;
mod training;

use std::time::Instant;

use frostline_schemas::data::Example;
use frostline_schemas::model::ModelFolder;
use frostline_schemas::plan::{Draft, GradientCard, LearningRate, Plan, PlanMethod, PlanTask, ProbeMethod, RateOrigin};
use frostline_schemas::select::{self, Strategy};

pub use self::arms::Candidate;
use self::outcome::Outcome;
use self::process::Probing;
pub use self::settings::{Aim, Horizon, ProbeSettings, Watch};
use crate::card::{self, CardSettings};
use crate::error::Error;
use crate::train::TrainSettings;

/// Makes a plan of probes over all of a task's rows. `proposed` are arms beside full training and the frost lines that are
/// always tried.
///
/// # Errors
/// [`Error::ProbeBudget`] where the share allows for no probes, [`Error::Probes`] where all diverge, and as for
/// [`train`](crate::train::train) and [`Split::new`](crate::compare::Split::new).
pub fn plan(
    task: PlanTask,
    proposed: Vec<Candidate>,
    settings: &ProbeSettings,
    watch: &mut dyn Watch,
) -> Result<Plan, Error> {
    let begun = Instant::now();
    let card = gradients(&task, settings, watch)?;
    let of_gradients = card.as_ref().and_then(|card| by_gradients(card, &task));
    let proposed = proposed.into_iter().chain(of_gradients).collect();
    let batch_size = settings.training.training.batch_size.max(1) as f64;
    let spent = card.as_ref().map_or(0.0, |card| (card.batches * card.rows) as f64 / batch_size);
    let mut probing = Probing::new(&task, proposed, spent, settings, watch)?;
    let factor = probing.find_rates()?;
    probing.try_parts(factor)?;
    let finalists = Outcome::new(&probing, settings.aim, factor)?.finalists();
    probing.try_longer(&finalists, factor)?;
    let outcome = Outcome::new(&probing, settings.aim, factor)?;
    let (chosen, expected) = outcome.chosen;
    let tensors = probing.arms[chosen].candidate.tensors.clone();
    let draft = Draft::of_choice(Strategy::Probe, tensors, &task.folder.config, probing.step);
    let method = ProbeMethod {
        steps: probing.horizon,
        batch_size: settings.training.training.batch_size,
        share: settings.share,
        rule: outcome.rule,
    };
    let draft = Draft {
        method: PlanMethod { probe: Some(method), ..draft.method },
        learning_rate: LearningRate::measured(expected.learning_rate, RateOrigin::Probe),
        gradients: card,
        probes: Some(outcome.probes(&probing, begun.elapsed().as_secs_f64())),
        ..draft
    };
    Ok(draft.sealed(task))
}

/// The card of a sample of the rows, where it takes no more than a twentieth of what probes may cost.
fn gradients(task: &PlanTask, settings: &ProbeSettings, watch: &mut dyn Watch) -> Result<Option<GradientCard>, Error> {
    const LARGEST_SHARE: f64 = 0.05;
    let TrainSettings { device, precision, threads, .. } = settings.training;
    let computing = CardSettings { batches: 4, device, precision, threads, ..CardSettings::DEFAULT };
    let allowed = settings.share * settings.steps(task.examples.len()) as f64;
    let cost = computing.examples() as f64 / settings.training.training.batch_size.max(1) as f64;
    if cost > LARGEST_SHARE * allowed {
        return Ok(None);
    }
    let chosen = select::sample(task.examples.len(), computing.examples(), task.data.seed);
    let examples: Vec<Example> = chosen.into_iter().filter_map(|row| task.examples.get(row).cloned()).collect();
    let folder = ModelFolder::open(&task.folder.path)?;
    card::card(folder, &examples, &computing, &mut |done, all| watch.gradients(done, all)).map(Some)
}

/// What a card proposes, if it promises anything.
fn by_gradients(card: &GradientCard, task: &PlanTask) -> Option<Candidate> {
    let strategy = Strategy::Gradient(Strategy::GRADIENT_SHARE);
    let config = &task.folder.config;
    let tensors = card::tensors(card, config, task.step(), Strategy::GRADIENT_SHARE).ok()?;
    let learning_rate = card::learning_rate(card, config, &tensors);
    Some(Candidate { name: strategy.to_string(), tensors, learning_rate })
}
