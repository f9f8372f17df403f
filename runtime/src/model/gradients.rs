//! The gradients of one step.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Tensor};
use frostline_schemas::model::LinearSpec;

use crate::error::Error;
use crate::ops::matrix::WriteMode;
use crate::ops::{cpu, linear, residual};

/// Gradients by the name of their tensor. Holds an entry only for what a backward pass was asked for.
///
/// The memory of gradients that were done with is used again for others of the same size.
#[derive(Debug, Default)]
pub struct Gradients {
    by_name: BTreeMap<String, Tensor>,
    /// Those of them whose memory is taken from `spare`, and goes back there.
    in_place: BTreeSet<String>,
    spare: Vec<Tensor>,
}

/// Sum of squares of each tensor's gradient, by name.
pub type Squares = BTreeMap<String, f64>;

impl Gradients {
    /// Adds to a tensor's gradient, which is kept in f32.
    pub fn add(&mut self, name: &str, gradient: Tensor) -> Result<(), Error> {
        let gradient = gradient.to_dtype(DType::F32)?;
        let sum = match self.by_name.remove(name) {
            Some(before) => residual::add(before, &gradient)?,
            None => gradient,
        };
        self.by_name.insert(name.to_owned(), sum);
        Ok(())
    }

    /// Adds the gradient of a linear layer's weight, given its input and the gradient of its output.
    pub fn add_weight(&mut self, spec: &LinearSpec, x: &Tensor, dy: &Tensor) -> Result<(), Error> {
        let name = &spec.weight.name;
        if !cpu::has_kernels_for(dy) {
            return self.add(name, linear::reference_weight_gradient(dy, x, spec.layout)?);
        }
        self.in_place(name, &spec.weight.shape, |gradient, into| {
            Ok(linear::weight_gradient(dy, x, spec.layout, gradient, into)?)
        })
    }

    /// Lets `f` write a CPU tensor's gradient, or add to what is there.
    pub fn in_place<R>(
        &mut self,
        name: &str,
        shape: &[usize],
        f: impl FnOnce(&Tensor, WriteMode) -> Result<R, Error>,
    ) -> Result<R, Error> {
        if let Some(gradient) = self.by_name.get(name) {
            return f(gradient, WriteMode::Accumulate);
        }
        let elements: usize = shape.iter().product();
        let gradient = match self.spare.iter().position(|spare| spare.elem_count() == elements) {
            Some(k) => self.spare.swap_remove(k).reshape(shape)?,
            None => Tensor::zeros(shape, DType::F32, &candle_core::Device::Cpu)?,
        };
        let result = f(&gradient, WriteMode::Overwrite)?;
        self.by_name.insert(name.to_owned(), gradient);
        self.in_place.insert(name.to_owned());
        Ok(result)
    }

    /// Forgets all gradients and keeps their memory for the next.
    pub fn clear(&mut self) {
        let done = std::mem::take(&mut self.by_name);
        let written = std::mem::take(&mut self.in_place);
        self.spare.extend(done.into_iter().filter(|(name, _)| written.contains(name)).map(|(_, gradient)| gradient));
    }

    /// Names of the tensors that received a gradient, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Names and gradients, each in its tensor's shape, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.by_name.iter().map(|(name, gradient)| (name.as_str(), gradient))
    }

    /// The sum of squares of each gradient.
    pub fn squares(&self) -> Result<Squares, Error> {
        self.iter().map(|(name, gradient)| Ok((name.to_owned(), sum_of_squares(gradient)?))).collect()
    }
}

/// The Euclidean norm of all gradients together.
pub(crate) fn norm(squares: &Squares) -> f64 {
    squares.values().sum::<f64>().sqrt()
}

fn sum_of_squares(tensor: &Tensor) -> Result<f64, Error> {
    if cpu::has_kernels_for(tensor) {
        return Ok(cpu::sum_of_squares(tensor)?);
    }
    Ok(f64::from(tensor.sqr()?.sum_all()?.to_scalar::<f32>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn memory_is_used_again_and_does_not_pile_up() {
        let mut gradients = Gradients::default();
        for step in 0..3 {
            let small = Tensor::ones(4, DType::F32, &Device::Cpu).unwrap();
            gradients.add("bias", small).unwrap();
            let into = gradients.in_place("weight", &[2, 4], |_, into| Ok(into)).unwrap();
            assert_eq!((into, gradients.spare.len()), (WriteMode::Overwrite, 0), "{step}");
            assert_eq!(gradients.in_place("weight", &[2, 4], |_, into| Ok(into)).unwrap(), WriteMode::Accumulate);
            gradients.clear();
            assert_eq!((gradients.spare.len(), gradients.names().count()), (1, 0), "{step}");
        }
    }
}
