//! What adapters compute: forward, backward, and their sum with the weight that they stand beside.

use candle_core::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::spec::Adapter;
use crate::error::Error;
use crate::model::gradients::Gradients;
use crate::model::parameters::Parameters;
use crate::ops::linear;
use crate::ops::matrix::WriteMode;

/// The stream of random numbers that A is drawn from; rows are shuffled with that of 0.
const STREAM: u64 = 1;

impl Adapter {
    /// Adds what the adapter gives for `x` [rows, inputs] to `y` [rows, outputs], which nobody else holds.
    pub fn forward(&self, parameters: &Parameters, x: &Tensor, y: Tensor) -> Result<Tensor, Error> {
        let b = parameters.matrix(&self.b.weight)?;
        Ok(linear::forward_onto(&self.reduce(parameters, x)?, &b, self.b.layout, y)?)
    }

    /// Adds the gradients of A and B; `x` is the input of the forward pass.
    pub fn collect(
        &self,
        parameters: &Parameters,
        x: &Tensor,
        dy: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<(), Error> {
        gradients.add_weight(&self.b, &self.reduce(parameters, x)?, dy)?;
        gradients.add_weight(&self.a, x, &self.reduce_gradient(parameters, dy)?)
    }

    /// Adds the gradient of the input to `sum`, which nobody else holds.
    pub fn input_gradient(&self, parameters: &Parameters, dy: &Tensor, sum: Tensor) -> Result<Tensor, Error> {
        let a = parameters.matrix(&self.a.weight)?;
        let dy = self.reduce_gradient(parameters, dy)?;
        Ok(linear::input_gradient(&dy, &a, self.a.layout, Some(sum))?)
    }

    /// `(alpha / rank) · x Aᵀ`, [rows, rank].
    fn reduce(&self, parameters: &Parameters, x: &Tensor) -> Result<Tensor, Error> {
        let a = parameters.matrix(&self.a.weight)?;
        Ok((linear::forward(x, &a, None, self.a.layout)? * self.scale)?)
    }

    /// `(alpha / rank) · dy B`, [rows, rank].
    fn reduce_gradient(&self, parameters: &Parameters, dy: &Tensor) -> Result<Tensor, Error> {
        let b = parameters.matrix(&self.b.weight)?;
        Ok((linear::input_gradient(dy, &b, self.b.layout, None)? * self.scale)?)
    }

    /// Adds `(alpha / rank) · B A` to a weight as it lies in the file, in f32 on the CPU, which nobody else holds.
    pub fn add_to_weight(&self, weight: &Tensor, a: &Tensor, b: &Tensor) -> Result<(), Error> {
        let b = (b.t()? * self.scale)?;
        Ok(linear::weight_gradient(&b, a, self.linear.layout, weight, WriteMode::Accumulate)?)
    }
}

/// Gives every A its first values, uniform within ±1/√inputs as PEFT draws them; every B is zero.
pub(crate) fn initialise<'a>(
    adapters: impl Iterator<Item = &'a Adapter>,
    parameters: &mut Parameters,
    seed: u64,
) -> Result<(), Error> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(STREAM);
    for Adapter { a, .. } in adapters {
        let bound = (a.inputs as f32).sqrt().recip();
        let values: Vec<f32> = (0..a.weight.elements()).map(|_| random.random_range(-bound..bound)).collect();
        parameters.replace(&a.weight.name, Tensor::from_vec(values, a.weight.shape.as_slice(), &Device::Cpu)?)?;
    }
    Ok(())
}
