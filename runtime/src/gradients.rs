//! The gradients of one step.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::error::Error;
use crate::ops::{cpu, residual};
use crate::scope::Scope;

/// Gradients by the name of their tensor. Holds an entry only for what a backward pass was asked for.
#[derive(Debug, Default)]
pub struct Gradients {
    by_name: BTreeMap<String, Tensor>,
}

impl Gradients {
    /// Adds to a tensor's gradient.
    pub fn add(&mut self, name: &str, gradient: Tensor) -> Result<(), Error> {
        let sum = match self.by_name.remove(name) {
            Some(before) => residual::add(&before, &gradient)?,
            None => gradient,
        };
        self.by_name.insert(name.to_owned(), sum);
        Ok(())
    }

    /// Names of the tensors that received a gradient, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Names and gradients, each in its tensor's shape, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.by_name.iter().map(|(name, gradient)| (name.as_str(), gradient))
    }

    /// The Euclidean norm of all gradients together.
    pub fn norm(&self) -> Result<f64, Error> {
        let squares = self.by_name.values().map(sum_of_squares).collect::<Result<Vec<f64>, Error>>()?;
        Ok(squares.iter().sum::<f64>().sqrt())
    }

    /// Proves that exactly the tensors of the scope received a gradient, and that all of it is finite. Returns the
    /// names of those whose gradient is zero everywhere, which is odd but can be right.
    ///
    /// # Errors
    /// [`Error::Unproved`] with the names.
    pub fn prove(&self, scope: &Scope) -> Result<Vec<String>, Error> {
        let missing = scope.names().filter(|name| !self.by_name.contains_key(*name)).map(str::to_owned).collect();
        let planned: std::collections::BTreeSet<&str> = scope.names().collect();
        let unplanned = self.names().filter(|name| !planned.contains(name)).map(str::to_owned).collect();
        let (mut infinite, mut zero) = (Vec::new(), Vec::new());
        for (name, gradient) in self.iter() {
            match sum_of_squares(gradient)? {
                sum if !sum.is_finite() => infinite.push(name.to_owned()),
                0.0 => zero.push(name.to_owned()),
                _ => (),
            }
        }
        let proof = Unproved { missing, unplanned, infinite };
        if proof.is_empty() { Ok(zero) } else { Err(Error::Unproved(proof)) }
    }
}

/// What keeps a step's gradients from being proved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unproved {
    /// Planned tensors without a gradient.
    pub missing: Vec<String>,
    /// Tensors with a gradient that are not planned.
    pub unplanned: Vec<String>,
    /// Tensors whose gradient is not finite everywhere.
    pub infinite: Vec<String>,
}

impl Unproved {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unplanned.is_empty() && self.infinite.is_empty()
    }
}

impl std::fmt::Display for Unproved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds = [
            ("planned but without a gradient", &self.missing),
            ("with a gradient but not planned", &self.unplanned),
            ("with a gradient that is not finite", &self.infinite),
        ];
        let said = kinds.iter().filter(|(_, names)| !names.is_empty());
        let said: Vec<String> = said.map(|(what, names)| format!("{what}: {}", names.join(", "))).collect();
        f.write_str(&said.join("; "))
    }
}

fn sum_of_squares(tensor: &Tensor) -> Result<f64, Error> {
    if tensor.device().is_cpu() {
        return Ok(cpu::sum_of_squares(tensor)?);
    }
    Ok(f64::from(tensor.sqr()?.sum_all()?.to_scalar::<f32>()?))
}
