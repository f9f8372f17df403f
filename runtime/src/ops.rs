//! The arithmetic of a decoder: one file per operation, each a forward and a hand-written backward.
//!
//! No operation knows a model, a parameter's name or whether a tensor is frozen: what a caller does not want computed
//! it does not ask for. On the CPU the elementwise and row-wise parts run as one pass each over f32 slices; on another
//! device the same formulas are spelled with candle's own operations.

pub mod activation;
pub mod attention;
pub(crate) mod cpu;
pub mod embedding;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod residual;
pub mod rope;
pub mod select;
pub mod sequences;

pub use cpu::product;

use candle_core::{DType, Tensor};

/// Which gradients a backward pass shall compute, for an operation with an input, a weight and a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub input: bool,
    pub weight: bool,
    pub bias: bool,
}

impl Wanted {
    /// Whether anything is wanted at all.
    pub fn any(self) -> bool {
        self.input || self.weight || self.bias
    }
}

/// The gradients that were [`Wanted`], and no others.
#[derive(Debug, Default)]
pub struct Gradients {
    pub input: Option<Tensor>,
    pub weight: Option<Tensor>,
    pub bias: Option<Tensor>,
}

/// Whether the one-pass kernels for f32 on the CPU compute with this tensor.
pub(crate) fn on_kernels(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use rand::{RngExt, SeedableRng};

    /// Values in [−1, 1), the same for the same seed.
    pub fn random(shape: &[usize], seed: u64) -> Tensor {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.random_range(-1.0..1.0)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    pub fn close(a: &Tensor, b: &Tensor) {
        assert_eq!(a.dims(), b.dims());
        let largest = (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(largest < 2e-6, "{largest:e}");
    }
}
