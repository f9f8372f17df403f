//! What training's settings choose: how tensors are updated, and what is minimised.

use frostline_schemas::run::TrainingSettings;

use crate::model::{CrossEntropy, Loss};
use crate::train::optimizer::{AdamW, Optimizer};

/// What a [`Trainer`](super::step::Trainer) trains by.
pub(super) struct Algorithm {
    pub optimizer: Box<dyn Optimizer>,
    pub loss: Box<dyn Loss>,
}

impl Algorithm {
    /// What the settings say: AdamW on cross-entropy, as yet always. A further optimiser or loss is chosen here.
    pub(super) fn of(settings: &TrainingSettings) -> Algorithm {
        Algorithm { optimizer: Box::new(AdamW::new(settings.weight_decay)), loss: Box::new(CrossEntropy) }
    }
}
