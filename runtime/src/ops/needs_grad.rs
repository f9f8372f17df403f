//! Which gradients a backward pass computes.

use candle_core::Tensor;

/// Which gradients a backward pass shall compute, for an operation with an input, a weight and a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeedsGrad {
    pub input: bool,
    pub weight: bool,
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
    pub input: Option<Tensor>,
    pub weight: Option<Tensor>,
    pub bias: Option<Tensor>,
}
