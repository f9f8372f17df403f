//! The arithmetic of a decoder: one file per operation, each a forward and a hand-written backward.
//!
//! No operation knows a model, a parameter's name or whether a tensor is frozen: what a caller does not want computed
//! it does not ask for. On the CPU the elementwise and row-wise parts run as one pass each over f32 slices, on CUDA (with
//! the feature) as one kernel each; elsewhere the same formulas are spelled with candle's own operations.

pub mod activation;
pub mod attention;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub mod embedding;
mod head;
pub mod linear;
pub mod loss;
pub mod matrix;
mod needs_grad;
pub mod norm;
pub mod residual;
pub mod rope;
pub mod select;
pub mod sequences;

pub use needs_grad::{NeedsGrad, NormGradients};

#[cfg(test)]
pub(crate) mod tests {
    #[cfg(feature = "cuda")]
    use candle_core::DType;
    use candle_core::{Device, Tensor};
    use rand::{RngExt, SeedableRng};

    /// Values in [−1, 1), the same for the same seed.
    pub(crate) fn random(shape: &[usize], seed: u64) -> Tensor {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.random_range(-1.0..1.0)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    pub(crate) fn close(a: &Tensor, b: &Tensor) {
        assert_eq!(a.dims(), b.dims());
        let largest = (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(largest < 2e-6, "{largest:e}");
    }

    /// Runs a test on the first CUDA device, in f32 and in bf16; for tests that are ignored where nobody asks for them.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_cuda(test: impl Fn(OnCuda)) {
        let device = Device::new_cuda(0).unwrap();
        test(OnCuda { device: device.clone(), dtype: DType::F32 });
        test(OnCuda { device, dtype: DType::BF16 });
    }

    /// Where and in which storage type a kernel is tested.
    #[cfg(feature = "cuda")]
    pub(crate) struct OnCuda {
        pub device: Device,
        pub dtype: DType,
    }

    #[cfg(feature = "cuda")]
    impl OnCuda {
        /// Random values in the storage type, and the same values in f32, for the reference.
        pub(crate) fn random(&self, shape: &[usize], seed: u64) -> (Tensor, Tensor) {
            let stored = random(shape, seed).to_device(&self.device).unwrap().to_dtype(self.dtype).unwrap();
            let upcast = stored.to_dtype(DType::F32).unwrap();
            (stored, upcast)
        }

        /// As [`close`] in f32; in bf16 as near as rounding to 8 bits, here and there twice, leaves it.
        pub(crate) fn close(&self, ours: &Tensor, theirs: &Tensor) {
            match self.dtype {
                DType::F32 => close(ours, theirs),
                _ => self.within(ours, theirs, 0.01),
            }
        }

        /// Within so much of the reference: of it where it is above 1, else of 1.
        pub(crate) fn within(&self, ours: &Tensor, theirs: &Tensor, part: f64) {
            assert_eq!(ours.dims(), theirs.dims());
            let off = (ours.to_dtype(DType::F32).unwrap() - theirs).unwrap().abs().unwrap();
            let allowed = (theirs.abs().unwrap().maximum(1f32).unwrap() * part).unwrap();
            let most = (off / allowed).unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(most < 1.0, "{:?}: {most} times what is allowed", self.dtype);
        }
    }
}
