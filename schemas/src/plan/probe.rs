//! What probes measured: short trainings of several arms, and what they promise for a whole one.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::select::Strategy;

/// How probes decide.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeMethod {
    /// Steps of the training that is planned for.
    pub steps: u64,
    /// Rows of a step.
    pub batch_size: usize,
    /// What probing may cost, as a share of the FLOPs of full training for those steps.
    pub share: f64,
    /// What is chosen.
    pub rule: ProbeRule,
}

/// What is chosen of arms whose result is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ProbeRule {
    /// The cheapest arm whose loss after the steps is larger than the least by at most this share of it, and what noise
    /// explains; where completions are ranked, whose accuracy is smaller than the best by at most this, and the noise.
    Cheapest {
        /// The share.
        tolerance: f64,
    },
    /// The best arm after as many steps as cost this share of full training.
    Within {
        /// The share.
        share: f64,
    },
    /// The best arm after as many steps as took so long on the machine that probed.
    Seconds {
        /// The seconds.
        seconds: f64,
    },
}

/// What probes measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probes {
    /// Rows that they trained on, at most.
    pub rows: usize,
    /// Rows held back, on which losses are measured.
    pub held_out: usize,
    /// FLOPs of all probes as a share of those of full training.
    pub share: f64,
    /// Seconds that they took.
    pub seconds: f64,
    /// The standard deviation of the logarithm of an arm's expected loss over that of full training, on average.
    pub noise: f64,
    /// The dearest first: full training.
    pub arms: Vec<ProbedArm>,
    /// The name of the arm that is planned.
    pub chosen: String,
    /// What is to be thought of it.
    pub verdict: ProbeVerdict,
}

/// Something that could be planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbedArm {
    /// `all`, `last:9`, `salf`, `gradient:0.6` and so on.
    pub name: String,
    /// Layers frozen, counted from the input.
    pub frost_line: usize,
    /// FLOPs of a step over those of a step of full training.
    pub step_share: f64,
    /// The short trainings.
    pub trainings: Vec<ProbeTraining>,
    /// What the whole training is expected to give.
    pub expected: Expected,
}

/// A short training from the model's own weights, with a rate that decays to nothing within its steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeTraining {
    /// The largest learning rate.
    pub learning_rate: f64,
    /// Steps.
    pub steps: u64,
    /// Mean loss on the rows held back; none where it diverged.
    pub loss: Option<f64>,
    /// Share of the rows held back whose completion came first, where they are ranked and it was measured.
    pub accuracy: Option<f64>,
}

/// What a whole training is expected to give and to cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Steps.
    pub steps: u64,
    /// The largest learning rate to take.
    pub learning_rate: f64,
    /// Loss on the rows held back.
    pub loss: f64,
    /// Accuracy on them, where they are ranked.
    pub accuracy: Option<f64>,
    /// FLOPs, the filling of a cache included where it pays, over those of full training.
    pub share: f64,
    /// Seconds on the machine that probed.
    pub seconds: f64,
}

/// What is to be thought of a choice by probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeVerdict {
    /// It costs less than full training and is expected to be as good, or better.
    AsGood,
    /// It costs less, and what it is expected to lose against full training is within the tolerance, or the noise.
    Tolerable,
    /// It is expected to be worse than full training by more than the noise: the budget allows for no better.
    Worse,
    /// Nothing that costs less is as good: all layers are to be trained.
    All,
}

impl ProbeMethod {
    /// Whether it plans for something.
    pub(super) fn is_possible(&self) -> bool {
        let share = match self.rule {
            ProbeRule::Cheapest { tolerance } => tolerance >= 0.0 && tolerance.is_finite(),
            ProbeRule::Within { share: most } | ProbeRule::Seconds { seconds: most } => most > 0.0 && most.is_finite(),
        };
        share && self.steps >= 1 && self.batch_size >= 1 && self.share > 0.0 && self.share.is_finite()
    }
}

impl Probes {
    /// The arm that is planned.
    pub fn chosen(&self) -> Option<&ProbedArm> {
        self.arms.iter().find(|arm| arm.name == self.chosen)
    }

    /// Full training.
    pub fn full(&self) -> Option<&ProbedArm> {
        self.arms.iter().find(|arm| arm.step_share == 1.0 && arm.frost_line == 0)
    }

    /// Whether they can be those of a model with so many layers.
    pub(super) fn is_possible(&self, layers: usize) -> bool {
        let numbers = [self.share, self.seconds, self.noise];
        let is_name = |arm: &ProbedArm| arm.name.parse::<Strategy>().is_ok() && !arm.name.contains(char::is_control);
        let names: BTreeSet<&str> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
        self.chosen().is_some()
            && names.len() == self.arms.len()
            && self.arms.iter().all(is_name)
            && numbers.iter().all(|number| *number >= 0.0 && number.is_finite())
            && self.arms.iter().all(|arm| arm.is_possible(layers))
    }
}

impl ProbeTraining {
    /// Puts what tells more first: the longer training and, of equally long ones, that of the smaller loss. One that diverged
    /// has none.
    pub fn order(&self, other: &ProbeTraining) -> Ordering {
        let loss = |training: &ProbeTraining| training.loss.unwrap_or(f64::INFINITY);
        other.steps.cmp(&self.steps).then(loss(self).total_cmp(&loss(other)))
    }
}

impl ProbedArm {
    /// The training that tells most of those that came to an end.
    pub fn longest(&self) -> Option<&ProbeTraining> {
        self.trainings.iter().filter(|training| training.loss.is_some()).min_by(|a, b| a.order(b))
    }

    fn is_possible(&self, layers: usize) -> bool {
        let training = |training: &ProbeTraining| {
            let is_share = training.accuracy.is_none_or(|accuracy| (0.0..=1.0).contains(&accuracy));
            is_share
                && training.steps >= 1
                && training.learning_rate > 0.0
                && training.loss.is_none_or(|loss| loss >= 0.0 && loss.is_finite())
        };
        let is_cost = self.step_share > 0.0 && self.step_share.is_finite() && !self.trainings.is_empty();
        self.frost_line < layers && is_cost && self.trainings.iter().all(training) && self.expected.is_possible()
    }
}

impl Expected {
    fn is_possible(&self) -> bool {
        let positive = [self.learning_rate, self.share];
        let others = [self.loss, self.seconds];
        positive.iter().all(|number| *number > 0.0 && number.is_finite())
            && others.iter().all(|number| *number >= 0.0 && number.is_finite())
            && self.accuracy.is_none_or(|accuracy| (0.0..=1.0).contains(&accuracy))
            && self.steps >= 1
    }
}
