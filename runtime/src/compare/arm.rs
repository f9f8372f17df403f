//! What is compared, and what came of it.

use frostline_schemas::digest::Digest;
use frostline_schemas::model::DecoderConfig;
use frostline_schemas::plan::Plan;
use frostline_schemas::run::{Lora, TrainingMethod};
use frostline_schemas::select::Strategy;
use serde::{Deserialize, Serialize};

use crate::compare::run::TrainedArm;
use crate::compare::spread::{Measure, Spread};
use crate::model::target_names;

/// What of a plan's layers is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ArmMethod {
    /// The planned tensors themselves.
    Full,
    /// Adapters of this rank beside all linear layers that are planned, scaled by 2.
    Lora {
        /// Their rank.
        rank: usize,
    },
}

impl ArmMethod {
    /// What a strategy's plan, trained by this method, is called.
    pub(super) fn name(self, strategy: &Strategy) -> String {
        match self {
            ArmMethod::Full => strategy.to_string(),
            ArmMethod::Lora { .. } => format!("{strategy} lora"),
        }
    }
}

/// What a comparison trains: a plan, by a method.
#[derive(Clone, Debug)]
pub struct Arm {
    /// What it is called.
    pub name: String,
    /// The plan.
    pub plan: Plan,
    /// The method.
    pub method: ArmMethod,
}

impl Arm {
    /// A plan by its strategy's name, with a method.
    pub fn new(plan: Plan, method: ArmMethod) -> Arm {
        Arm { name: method.name(&plan.method.strategy), plan, method }
    }

    /// The method as training takes it.
    pub(super) fn training_method(&self, config: &DecoderConfig) -> TrainingMethod {
        match self.method {
            ArmMethod::Full => TrainingMethod::Full,
            ArmMethod::Lora { rank } => TrainingMethod::Lora(Lora {
                rank,
                alpha: rank as f64 * (Lora::ALPHA / Lora::RANK as f64),
                targets: target_names(config, &self.plan.tensors),
            }),
        }
    }
}

/// Where the best rate lies among those that were tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// It is the smallest; a smaller one may be better.
    Smallest,
    /// It is the largest; a larger one may be better.
    Largest,
}

/// What came of an arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmResult {
    /// What it is called.
    pub name: String,
    /// The plan's id.
    pub plan: Digest,
    /// Layers frozen, counted from the input.
    pub frost_line: usize,
    /// Elements of all trained tensors.
    pub trained_parameters: u64,
    /// FLOPs of a step of the plan over those of a step that trains all layers; `None` where the plan says nothing.
    pub predicted: Option<f64>,
    /// The rate of the least loss on rows held back, by the first seed; `None` where all diverged.
    pub best: Option<f64>,
    /// Every training: first those of the sweep with one seed, then those of the best rate with the others.
    pub trainings: Vec<TrainedArm>,
}

impl ArmResult {
    /// Trainings at the best rate that came to an end, one a seed.
    pub fn at_best(&self) -> impl Iterator<Item = &TrainedArm> {
        self.trainings.iter().filter(|run| Some(run.learning_rate) == self.best && run.held_out_loss.is_some())
    }

    /// Whether the best rate is at an edge of those tried; `None` too where one alone was.
    pub fn edge(&self) -> Option<Edge> {
        let best = self.best?;
        let others = || self.trainings.iter().map(|run| run.learning_rate).filter(|&rate| rate != best);
        match (others().any(|rate| rate < best), others().any(|rate| rate > best)) {
            (true, false) => Some(Edge::Largest),
            (false, true) => Some(Edge::Smallest),
            _ => None,
        }
    }

    /// A measure at the best rate over seeds.
    pub fn spread(&self, measure: Measure) -> Option<Spread> {
        let value = |run: &TrainedArm| match (measure, &run.evaluation) {
            (Measure::HeldOutLoss, _) => run.held_out_loss,
            (Measure::Loss, Some(evaluation)) => Some(evaluation.loss),
            (Measure::Accuracy, Some(evaluation)) => evaluation.ranking.as_ref().map(|ranking| ranking.accuracy),
            (_, None) => None,
        };
        Spread::of(&self.at_best().map(value).collect::<Option<Vec<f64>>>()?)
    }

    /// Rows that it was evaluated on.
    pub(super) fn evaluated(&self) -> usize {
        self.at_best().find_map(|run| run.evaluation.as_ref()).map_or(0, |evaluation| evaluation.examples)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::evaluate::{Evaluation, Ranking};

    fn run(learning_rate: f64, held_out_loss: f64, accuracy: Option<f64>) -> TrainedArm {
        let evaluation = accuracy.map(|accuracy| Evaluation {
            examples: 500,
            targets: 500,
            loss: held_out_loss,
            ranking: Some(Ranking { candidates: 6, accuracy, macro_f1: accuracy }),
        });
        TrainedArm { learning_rate, held_out_loss: Some(held_out_loss), evaluation, ..TrainedArm::default() }
    }

    fn result(best: Option<f64>, trainings: Vec<TrainedArm>) -> ArmResult {
        let plan = Digest::of(b"plan");
        ArmResult { name: "arm".into(), plan, frost_line: 0, trained_parameters: 1, predicted: None, best, trainings }
    }

    /// An arm with these losses and accuracies, one a seed; without any it has diverged.
    pub(in crate::compare) fn arm(seeds: &[(f64, f64)]) -> ArmResult {
        let trainings: Vec<_> = seeds.iter().map(|&(loss, accuracy)| run(1e-3, loss, Some(accuracy))).collect();
        result((!seeds.is_empty()).then_some(1e-3), trainings)
    }

    /// An arm with these losses and no ranking.
    pub(in crate::compare) fn arm_of(losses: &[f64], accuracy: Option<f64>) -> ArmResult {
        result(Some(1e-3), losses.iter().map(|&loss| run(1e-3, loss, accuracy)).collect())
    }

    #[test]
    fn a_best_rate_at_the_edge_is_said_to_be() {
        let tried = |rates: &[f64]| result(Some(1e-3), rates.iter().map(|&rate| run(rate, 0.1, None)).collect()).edge();
        assert_eq!(tried(&[1e-4, 1e-3, 1e-2]), None);
        assert_eq!(tried(&[1e-4, 1e-3]), Some(Edge::Largest));
        assert_eq!(tried(&[1e-3, 1e-2, 1e-3]), Some(Edge::Smallest));
        assert_eq!(tried(&[1e-3, 1e-3]), None);
    }
}
