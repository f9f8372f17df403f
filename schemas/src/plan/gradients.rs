//! What gradients at the starting weights say of each layer.

use serde::{Deserialize, Serialize};

/// Gradients of a few batches at the starting weights, by layer: the gradient card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GradientCard {
    /// Batches.
    pub batches: usize,
    /// Examples of each.
    pub rows: usize,
    /// Mean loss at targets, in nats.
    pub loss: f64,
    /// From the input up.
    pub layers: Vec<LayerGradients>,
}

/// Gradients g_b of the batches b = 1 … B for a layer's tensors, and their mean ḡ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerGradients {
    /// The layer, from 1 at the input.
    pub layer: usize,
    /// ‖W‖₂, the norm of its tensors.
    pub weight_norm: f64,
    /// ‖ḡ‖₂.
    pub gradient_norm: f64,
    /// ‖ḡ‖₁.
    pub gradient_l1: f64,
    /// Mean of ⟨g_b, g_c⟩ over b ≠ c: an unbiased estimate of the expected gradient's squared norm, which may be below 0.
    pub signal: f64,
    /// Σ ḡ² / √(mean of g_b²): by how much, to first order and for each unit of learning rate, a step of Adam lowers the
    /// loss of these batches.
    pub fall: f64,
    /// The same with ḡ² replaced by the product of the means over two halves of the batches: of what a step by one half
    /// lowers on the other.
    pub held_out_fall: f64,
}

impl GradientCard {
    /// Whether it can be one of a model with so many layers.
    pub(super) fn is_possible(&self, layers: usize) -> bool {
        let counted = self.layers.iter().map(|layer| layer.layer).eq(1..=layers);
        counted && self.batches >= 2 && self.loss.is_finite() && self.layers.iter().all(LayerGradients::is_possible)
    }
}

impl LayerGradients {
    /// ‖ḡ‖₂ / ‖W‖₂ (Lee et al. 2023, arXiv 2210.11466).
    pub fn relative_norm(&self) -> f64 {
        self.gradient_norm / self.weight_norm.max(f64::MIN_POSITIVE)
    }

    /// Whether these can be sums over gradients.
    fn is_possible(&self) -> bool {
        let sums = [self.weight_norm, self.gradient_norm, self.gradient_l1, self.fall];
        let finite = [self.signal, self.held_out_fall];
        sums.iter().all(|sum| *sum >= 0.0 && sum.is_finite()) && finite.iter().all(|value| value.is_finite())
    }
}
