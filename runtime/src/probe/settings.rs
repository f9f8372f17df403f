//! How to plan by probes.

use crate::data::steps_of_epochs;
use crate::train::{Hook, TrainSettings};

/// How to plan by probes.
#[derive(Clone, Debug)]
pub struct ProbeSettings {
    /// How long the training is that is planned for.
    pub horizon: Horizon,
    /// What probes may cost, as a share of full training for those steps.
    pub share: f64,
    /// What is chosen.
    pub aim: Aim,
    /// How is trained, here and later; its steps, rate and order are the probes' own. Its cache holds their states.
    pub training: TrainSettings,
}

/// How long a training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Horizon {
    /// So many steps.
    Steps(u64),
    /// So many passes over the rows.
    Epochs(f64),
}

/// What a plan is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// The result of the best arm but for a tolerance, as cheaply as possible: see
    /// [`ProbeRule::Cheapest`](frostline_schemas::plan::ProbeRule::Cheapest).
    Cheapest {
        /// The tolerance; where `None`, a point of accuracy or 5 % of the loss.
        tolerance: Option<f64>,
    },
    /// The best result for this share of what full training costs.
    Share(f64),
    /// The best result within these seconds, on this machine.
    Seconds(f64),
}

/// Is told how far probing is.
pub trait Watch: Send {
    /// Gradients of so many batches of all are computed.
    fn gradients(&mut self, _done: usize, _all: usize) {}

    /// A training of an arm begins, by its name; what looks at it.
    fn probing(&mut self, arm: &str, learning_rate: f64, steps: u64) -> Box<dyn Hook>;
}

/// Looks at nothing.
impl Watch for () {
    fn probing(&mut self, _: &str, _: f64, _: u64) -> Box<dyn Hook> {
        Box::new(())
    }
}

impl ProbeSettings {
    /// What probes may cost where nothing else is asked for, as a share of full training.
    pub const SHARE: f64 = 0.3;

    /// The steps that are planned for, with so many rows.
    pub(super) fn steps(&self, rows: usize) -> u64 {
        let training = &self.training.training;
        match self.horizon {
            Horizon::Steps(steps) => steps,
            Horizon::Epochs(epochs) => {
                steps_of_epochs(epochs, rows, training.batch_size.saturating_mul(training.accumulation))
            }
        }
    }
}
