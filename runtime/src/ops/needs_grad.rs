//! Which gradients a backward pass computes.

use candle_core::Tensor;

/// Which gradients a backward pass is to compute, for an operation with an input, a weight and a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeedsGrad {
    /// That of the input.
    pub input: bool,
    /// That of the weight.
    pub weight: bool,
    /// That of the bias.
    pub bias: bool,
}

impl NeedsGrad {
    /// Whether any gradient is needed.
    pub fn any(self) -> bool {
        self.input || self.weight || self.bias
    }
}

/// The gradients that were asked for, and no others.
#[derive(Debug, Default)]
pub struct NormGradients {
    /// That of the input, in its shape.
    pub input: Option<Tensor>,
    /// That of the weight, [hidden].
    pub weight: Option<Tensor>,
    /// That of the bias, [hidden].
    pub bias: Option<Tensor>,
}
