//! Optimisers, of which AdamW is the first (Loshchilov & Hutter, arXiv 1711.05101), with moments for the trained tensors only.

use std::collections::BTreeMap;

use candle_core::Tensor;
use rayon::prelude::*;

use crate::error::Error;
use crate::model::Gradients;
use crate::model::Parameters;
use crate::ops::cpu;
#[cfg(feature = "cuda")]
use crate::ops::cuda;

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// What PyTorch's `clip_grad_norm_` adds to the norm before it divides by it.
const CLIP_EPSILON: f64 = 1e-6;
/// Elements of one task.
const CHUNK: usize = 1 << 14;

/// Changes trained tensors by their gradients.
pub trait Optimizer: Send {
    /// Updates every tensor that has a gradient.
    ///
    /// # Errors
    /// [`Error::UnknownTensors`] for a gradient of a tensor that is not trained.
    fn update(&mut self, parameters: &mut Parameters, gradients: &Gradients, update: Update) -> Result<(), Error>;

    /// What the optimiser keeps of a tensor between updates; `None` if the tensor was never updated.
    ///
    /// # Errors
    /// [`Error::Tensor`] where it cannot be copied from its device.
    fn state(&self, name: &str) -> Result<Option<TensorState>, Error>;
}

/// What an optimiser keeps of one tensor.
#[derive(Clone, Debug)]
pub struct TensorState {
    /// Updates so far.
    pub updates: u64,
    /// Name and values (f32, one for each element of the tensor) of each quantity.
    pub values: Vec<(&'static str, Vec<f32>)>,
}

/// AdamW (arXiv 1711.05101): moments of the gradients, of the trained tensors only.
#[derive(Debug)]
pub struct AdamW {
    weight_decay: f64,
    /// Of each tensor, with the number of its updates: a batch that does not reach a tensor leaves both as they are.
    moments: BTreeMap<String, (i32, Moments)>,
}

/// Running means of the gradient and of its square, f32, each in the tensor's shape.
#[derive(Debug)]
enum Moments {
    Host(Vec<f32>, Vec<f32>),
    Device(Tensor, Tensor),
}

/// What all tensors of an update have in common.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// What gradients are multiplied by first, 1 for none.
    pub clip: f64,
}

/// The numbers of one update of one tensor.
#[derive(Clone, Copy, Debug)]
struct Rates {
    /// What gradients are multiplied by.
    clip: f32,
    /// What parameters are multiplied by: 1 − learning rate · weight decay.
    decay: f32,
    /// Learning rate over the bias correction of the first moment.
    size: f32,
    /// 1 over the root of the bias correction of the second.
    correction: f32,
}

impl AdamW {
    /// An optimiser that has seen nothing; betas 0.9 and 0.999, epsilon 1e-8.
    pub fn new(weight_decay: f64) -> AdamW {
        AdamW { weight_decay, moments: BTreeMap::new() }
    }
}

impl Optimizer for AdamW {
    fn update(&mut self, parameters: &mut Parameters, gradients: &Gradients, update: Update) -> Result<(), Error> {
        for (name, gradient) in gradients.iter() {
            let parameter = parameters.trained_tensor(name)?.clone();
            if !self.moments.contains_key(name) {
                self.moments.insert(name.to_owned(), (0, Moments::zeros(&parameter)?));
            }
            let (updates, moments) = self.moments.get_mut(name).ok_or(Error::Internal("moments were just made"))?;
            *updates = updates.saturating_add(1);
            let rates = Rates::new(*updates, update.learning_rate, self.weight_decay, update.clip);
            match moments {
                Moments::Host(first, second) => {
                    update_in_place(&parameter, gradient, (first, second), rates)?;
                    parameters.changed(name);
                }
                #[cfg(feature = "cuda")]
                Moments::Device(first, second) if cuda::has_kernels_for([&parameter, gradient]) => {
                    cuda::adamw::update(&parameter, gradient, [first, second], rates.numbers())?;
                    parameters.changed(name);
                }
                Moments::Device(first, second) => {
                    let updated = reference_update(&parameter, gradient, (first, second), rates)?;
                    parameters.replace(name, updated)?;
                }
            }
        }
        Ok(())
    }

    fn state(&self, name: &str) -> Result<Option<TensorState>, Error> {
        let Some((updates, moments)) = self.moments.get(name) else { return Ok(None) };
        let [first, second] = moments.values()?;
        let values = vec![("first moment", first), ("second moment", second)];
        Ok(Some(TensorState { updates: u64::from(updates.unsigned_abs()), values }))
    }
}

impl Rates {
    fn new(step: i32, learning_rate: f64, weight_decay: f64, clip: f64) -> Rates {
        Rates {
            clip: clip as f32,
            decay: (1.0 - learning_rate * weight_decay) as f32,
            size: (learning_rate / (1.0 - BETA_1.powi(step))) as f32,
            correction: (1.0 - BETA_2.powi(step)).sqrt().recip() as f32,
        }
    }

    /// All that the kernel multiplies and adds.
    #[cfg(feature = "cuda")]
    fn numbers(self) -> cuda::adamw::Numbers {
        let Rates { clip, decay, size, correction } = self;
        let betas = [BETA_1, BETA_2].map(|beta| [beta as f32, (1.0 - beta) as f32]);
        cuda::adamw::Numbers { clip, decay, size, correction, betas, epsilon: EPSILON as f32 }
    }
}

/// What gradients of this norm are multiplied by, so that it is at most `most`.
pub(super) fn clip_factor(norm: f64, most: Option<f64>) -> f64 {
    most.map_or(1.0, |most| (most / (norm + CLIP_EPSILON)).min(1.0))
}

impl Moments {
    /// Both in f32, on the CPU.
    fn values(&self) -> Result<[Vec<f32>; 2], Error> {
        match self {
            Moments::Host(first, second) => Ok([first.clone(), second.clone()]),
            Moments::Device(first, second) => {
                let copied = |moment: &Tensor| moment.flatten_all()?.to_vec1();
                Ok([copied(first)?, copied(second)?])
            }
        }
    }

    fn zeros(parameter: &Tensor) -> Result<Moments, Error> {
        let n = parameter.elem_count();
        match parameter.device().is_cpu() {
            true => Ok(Moments::Host(vec![0.0; n], vec![0.0; n])),
            false => Ok(Moments::Device(parameter.zeros_like()?, parameter.zeros_like()?)),
        }
    }
}

/// One pass over parameter, gradient and both moments.
fn update_in_place(
    parameter: &Tensor,
    gradient: &Tensor,
    moments: (&mut [f32], &mut [f32]),
    rates: Rates,
) -> Result<(), Error> {
    let (first, second) = moments;
    Ok(cpu::with_slices([gradient], |[gradient]| {
        cpu::in_place(parameter, |parameter| {
            let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
            let both = parameter.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK));
            both.zip(moments).for_each(|((parameter, gradient), (first, second))| {
                cpu::vectorised(|| update_chunk(parameter, gradient, first, second, rates));
            });
        })
    })??)
}

#[inline(always)]
fn update_chunk(parameter: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], rates: Rates) {
    const B1: f32 = BETA_1 as f32;
    const B2: f32 = BETA_2 as f32;
    // In f64 first: 1 − 0.999 in f32 is off by 5e-5 of itself.
    const REST_1: f32 = (1.0 - BETA_1) as f32;
    const REST_2: f32 = (1.0 - BETA_2) as f32;
    let moments = first.iter_mut().zip(second);
    for ((parameter, gradient), (first, second)) in parameter.iter_mut().zip(gradient).zip(moments) {
        let gradient = gradient * rates.clip;
        *first = B1 * *first + REST_1 * gradient;
        *second = B2 * *second + REST_2 * gradient * gradient;
        let root = second.sqrt() * rates.correction + EPSILON as f32;
        *parameter = *parameter * rates.decay - rates.size * *first / root;
    }
}

/// The same, with candle's own operations.
fn reference_update(
    parameter: &Tensor,
    gradient: &Tensor,
    (first, second): (&mut Tensor, &mut Tensor),
    rates: Rates,
) -> Result<Tensor, Error> {
    let gradient = (gradient * f64::from(rates.clip))?;
    *first = ((&*first * BETA_1)? + (&gradient * (1.0 - BETA_1))?)?;
    *second = ((&*second * BETA_2)? + (gradient.sqr()? * (1.0 - BETA_2))?)?;
    let root = second.sqrt()?.affine(f64::from(rates.correction), EPSILON)?;
    Ok(((parameter * f64::from(rates.decay))? - ((&*first * f64::from(rates.size))? / root)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// torch.optim.AdamW([1.0, −2.0], lr=0.1, weight_decay=0.01) with gradients [0.5, −0.25], then [0.1, 0.3].
    #[test]
    fn two_steps_are_those_of_pytorch() {
        let parameter = Tensor::new(&[1f32, -2.0], &Device::Cpu).unwrap();
        let mut on_device = parameter.copy().unwrap();
        let (mut m, mut v) = (vec![0.0; 2], vec![0.0; 2]);
        let (mut first, mut second) = (parameter.zeros_like().unwrap(), parameter.zeros_like().unwrap());
        for (step, gradient) in [[0.5f32, -0.25], [0.1, 0.3]].iter().enumerate() {
            let rates = Rates::new(step as i32 + 1, 0.1, 0.01, 1.0);
            let gradient = Tensor::new(gradient, &Device::Cpu).unwrap();
            update_in_place(&parameter, &gradient, (&mut m, &mut v), rates).unwrap();
            on_device = reference_update(&on_device, &gradient, (&mut first, &mut second), rates).unwrap();
        }
        // p₁ = 0.999 p₀ − 0.1 sign(g₁); p₂ = 0.999 p₁ − 0.1 m̂₂/√v̂₂
        //   m̂₂ = (0.09 g₁ + 0.1 g₂)/0.19, v̂₂ = (0.000999 g₁² + 0.001 g₂²)/0.001999
        let expected = |p0: f64, g1: f64, g2: f64| {
            let p1 = 0.999 * p0 - 0.1 * g1.signum();
            let root = ((0.000999 * g1 * g1 + 0.001 * g2 * g2) / 0.001999).sqrt();
            0.999 * p1 - 0.1 * ((0.09 * g1 + 0.1 * g2) / 0.19) / root
        };
        for got in [parameter, on_device] {
            let got: Vec<f32> = got.to_vec1().unwrap();
            assert!((f64::from(got[0]) - expected(1.0, 0.5, 0.1)).abs() < 1e-6, "{got:?}");
            assert!((f64::from(got[1]) - expected(-2.0, -0.25, 0.3)).abs() < 1e-6, "{got:?}");
        }
    }

    #[cfg(feature = "cuda")]
    #[test]
    #[ignore = "needs a CUDA device"]
    fn kernels_agree_with_the_reference_on_cuda() {
        use crate::ops::tests::{close, on_cuda, random};
        on_cuda(|on| {
            let [parameter, gradient] = [1, 2].map(|seed| random(&[3, 700], seed).to_device(&on.device).unwrap());
            let mut theirs = parameter.copy().unwrap();
            let [first, second] = [0; 2].map(|_| parameter.zeros_like().unwrap());
            let (mut m, mut v) = (first.copy().unwrap(), second.copy().unwrap());
            for step in 1..4 {
                let rates = Rates::new(step, 0.1, 0.01, 0.7);
                cuda::adamw::update(&parameter, &gradient, [&first, &second], rates.numbers()).unwrap();
                theirs = reference_update(&theirs, &gradient, (&mut m, &mut v), rates).unwrap();
                close(&parameter, &theirs);
                close(&first, &m);
                close(&second, &v);
            }
        });
    }

    #[test]
    fn only_too_large_gradients_are_scaled() {
        assert_eq!(clip_factor(5.0, None), 1.0);
        assert_eq!(clip_factor(0.5, Some(1.0)), 1.0);
        assert!((clip_factor(4.0, Some(1.0)) - 0.25).abs() < 1e-6);
    }
}
