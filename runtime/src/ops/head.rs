//! What the LM head is given: hidden states, its weight and cap, and the tokens to predict.

use candle_core::Tensor;

use super::matrix::Matrix;

/// What logits are computed from: `softcap(h Wᵀ)`.
#[derive(Clone, Copy)]
pub struct HeadInput<'a> {
    /// h, [targets, hidden].
    pub hidden: &'a Tensor,
    /// W, [vocabulary, hidden].
    pub head: &'a Matrix<'a>,
    /// Logits `z` become `cap · tanh(z / cap)`, where there is a cap.
    pub softcap: Option<f32>,
}

/// The tokens to predict, one for each hidden state.
#[derive(Clone, Copy)]
pub struct Targets<'a> {
    /// The tokens.
    pub tokens: &'a [u32],
    /// What each target's loss counts; 1 each where `None`.
    pub weights: Option<&'a [f32]>,
}

impl Targets<'_> {
    /// What target `index` counts.
    pub(super) fn weight(&self, index: usize) -> f32 {
        self.weights.and_then(|weights| weights.get(index)).copied().unwrap_or(1.0)
    }
}
