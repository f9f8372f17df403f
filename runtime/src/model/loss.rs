//! What training minimises at targets. Targets can have weights; the decoder gives none yet.

use candle_core::Tensor;

use crate::error::Error;
use crate::ops::loss;
pub(super) use crate::ops::loss::{HeadGradient, HeadInput, Outcome, Targets};

/// A loss of the logits at targets, computed together with its gradients, so that logits never stand in memory whole.
pub trait Loss: Sync {
    /// The sum of the targets' losses, each times its weight, in nats, and `scale` times its gradients: that of the
    /// hidden states, and that of the head where memory for it is given.
    fn at_targets(
        &self,
        input: HeadInput,
        targets: Targets,
        scale: f64,
        head_gradient: HeadGradient,
    ) -> Result<Outcome, Error>;

    /// The head's gradient as a tensor of its own, [vocabulary, hidden], on devices without kernels for it.
    fn reference_head_gradient(&self, input: HeadInput, targets: Targets, scale: f64) -> Result<Tensor, Error>;
}

/// `−ln softmax(logits)[target]`.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy;

impl Loss for CrossEntropy {
    fn at_targets(
        &self,
        input: HeadInput,
        targets: Targets,
        scale: f64,
        head_gradient: HeadGradient,
    ) -> Result<Outcome, Error> {
        Ok(loss::cross_entropy(input, targets, scale, head_gradient)?)
    }

    fn reference_head_gradient(&self, input: HeadInput, targets: Targets, scale: f64) -> Result<Tensor, Error> {
        Ok(loss::reference_head_gradient(input, targets, scale)?)
    }
}

/// What a backward pass differentiates: `scale` times a loss.
#[derive(Clone, Copy)]
pub struct Objective<'a> {
    /// What is minimised.
    pub loss: &'a dyn Loss,
    /// What the sum over targets is multiplied by.
    pub scale: f64,
}
