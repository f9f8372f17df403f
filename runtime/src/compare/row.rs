//! Trainings by several plans for the same steps at the same rate.

use frostline_schemas::plan::Plan;

use crate::error::Error;
use crate::evaluate::Evaluation;
use crate::run::{Finished, Job};
use crate::train::{Hook, Hooks, Summary, TrainSettings};

/// What training by one plan gave.
#[derive(Clone, Debug)]
pub struct ComparisonRow {
    /// What the plan is called.
    pub name: String,
    /// Layers frozen, counted from the input.
    pub frost_line: usize,
    /// Elements of all trained tensors.
    pub trained_parameters: u64,
    /// FLOPs of a step over those of a step that trains all layers, as the plan says; `None` where it says nothing.
    pub predicted: Option<f64>,
    /// Seconds that the whole training took.
    pub seconds: f64,
    /// Median seconds of a step.
    pub step_seconds: f64,
    /// Mean loss of the last steps.
    pub last_loss: f64,
    /// How well the trained model does.
    pub evaluation: Evaluation,
}

impl ComparisonRow {
    /// Trains by a plan and evaluates.
    ///
    /// # Errors
    /// As for [`Job::run`]; [`Error::NothingToEvaluate`] for a job without rows to evaluate on.
    pub fn train(
        name: &str,
        plan: &Plan,
        job: Job,
        settings: &TrainSettings,
        hook: &mut dyn Hook,
    ) -> Result<ComparisonRow, Error> {
        let mut summary = Summary::default();
        let mut hooks = Hooks::default().with(&mut summary).with(hook);
        let Finished { frost_line, trained_parameters, seconds, evaluation, .. } =
            job.run(plan, settings, &mut hooks)?;
        drop(hooks);
        Ok(ComparisonRow {
            name: name.to_owned(),
            frost_line,
            trained_parameters,
            predicted: plan.planned_cost().map(|cost| cost.share),
            seconds,
            step_seconds: summary.median_step_seconds(),
            last_loss: summary.last_loss(),
            evaluation: evaluation.ok_or(Error::NothingToEvaluate)?,
        })
    }

    /// Accuracy, where completions were ranked.
    pub fn accuracy(&self) -> Option<f64> {
        self.evaluation.ranking.as_ref().map(|ranking| ranking.accuracy)
    }

    /// The time of a step over that of the row that trains all layers; `None` where no row does.
    pub fn measured(&self, rows: &[ComparisonRow]) -> Option<f64> {
        let full = rows.iter().find(|row| row.predicted == Some(1.0))?;
        Some(self.step_seconds / full.step_seconds)
    }
}
