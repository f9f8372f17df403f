//! Linear layers and norms as a model has them: an operation, the names of its tensors, and what of it is trained.

use candle_core::Tensor;
use frostline_schemas::decoder::{LinearSpec, NormSpec, TensorSpec};

use crate::error::Error;
use crate::gradients::Gradients;
use crate::ops::{self, Wanted, linear, norm};
use crate::parameters::Parameters;
use crate::scope::Scope;

/// A linear layer.
#[derive(Clone, Debug)]
pub struct Linear {
    spec: LinearSpec,
    trained: Trained,
}

/// A norm.
#[derive(Clone, Debug)]
pub struct Norm {
    spec: NormSpec,
    trained: Trained,
}

#[derive(Clone, Copy, Debug)]
struct Trained {
    weight: bool,
    bias: bool,
}

/// What a module's backward pass needs of its forward pass: its input, where anything needs it.
#[derive(Debug)]
pub struct Saved(Option<Tensor>);

impl Trained {
    fn new(weight: &TensorSpec, bias: Option<&TensorSpec>, scope: &Scope) -> Trained {
        Trained { weight: scope.holds(weight), bias: scope.holds_any(bias) }
    }

    fn wanted(self, input: bool) -> Wanted {
        Wanted { input, weight: self.weight, bias: self.bias }
    }
}

impl Linear {
    /// A linear layer of which the scope's tensors are trained.
    pub fn new(spec: &LinearSpec, scope: &Scope) -> Linear {
        Linear { spec: spec.clone(), trained: Trained::new(&spec.weight, spec.bias.as_ref(), scope) }
    }

    /// Whether weight or bias is trained.
    pub fn is_trained(&self) -> bool {
        self.trained.weight || self.trained.bias
    }

    /// [.., inputs] → [.., outputs].
    pub fn forward(&self, parameters: &Parameters, x: &Tensor) -> Result<Tensor, Error> {
        let bias = self.spec.bias.as_ref().map(|bias| parameters.get(bias)).transpose()?;
        Ok(linear::forward(x, parameters.get(&self.spec.weight)?, bias, self.spec.layout)?)
    }

    /// As [`forward`](Linear::forward); keeps the input where the weight is trained.
    pub fn forward_saved(&self, parameters: &Parameters, x: &Tensor) -> Result<(Tensor, Saved), Error> {
        let saved = Saved(self.trained.weight.then(|| x.clone()));
        Ok((self.forward(parameters, x)?, saved))
    }

    /// Adds the gradients of what is trained; returns the input's where it is wanted.
    pub fn backward(
        &self,
        parameters: &Parameters,
        saved: &Saved,
        dy: &Tensor,
        wants_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let wanted = self.trained.wanted(wants_input);
        if !wanted.any() {
            return Ok(None);
        }
        let weight = parameters.get(&self.spec.weight)?;
        let computed = linear::backward(dy, saved.0.as_ref(), weight, self.spec.layout, wanted)?;
        collect(computed, &self.spec.weight, self.spec.bias.as_ref(), gradients)
    }
}

impl Norm {
    /// A norm of which the scope's tensors are trained.
    pub fn new(spec: &NormSpec, scope: &Scope) -> Norm {
        Norm { spec: spec.clone(), trained: Trained::new(&spec.weight, spec.bias.as_ref(), scope) }
    }

    /// Whether weight or bias is trained.
    pub fn is_trained(&self) -> bool {
        self.trained.weight || self.trained.bias
    }

    /// [.., width] → the same shape.
    pub fn forward(&self, parameters: &Parameters, x: &Tensor) -> Result<Tensor, Error> {
        let bias = self.spec.bias.as_ref().map(|bias| parameters.get(bias)).transpose()?;
        Ok(norm::forward(x, self.spec.kind, self.spec.epsilon, parameters.get(&self.spec.weight)?, bias)?)
    }

    /// As [`forward`](Norm::forward); keeps the input.
    pub fn forward_saved(&self, parameters: &Parameters, x: &Tensor) -> Result<(Tensor, Saved), Error> {
        Ok((self.forward(parameters, x)?, Saved(Some(x.clone()))))
    }

    /// Adds the gradients of what is trained; returns the input's where it is wanted.
    pub fn backward(
        &self,
        parameters: &Parameters,
        saved: &Saved,
        dy: &Tensor,
        wants_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let wanted = self.trained.wanted(wants_input);
        let Some(x) = saved.0.as_ref().filter(|_| wanted.any()) else {
            return Ok(None);
        };
        let weight = parameters.get(&self.spec.weight)?;
        let computed = norm::backward(dy, x, self.spec.kind, self.spec.epsilon, weight, wanted)?;
        collect(computed, &self.spec.weight, self.spec.bias.as_ref(), gradients)
    }
}

/// Files gradients under the names of their tensors; returns the input's.
fn collect(
    computed: ops::Gradients,
    weight: &TensorSpec,
    bias: Option<&TensorSpec>,
    gradients: &mut Gradients,
) -> Result<Option<Tensor>, Error> {
    if let Some(gradient) = computed.weight {
        gradients.add(&weight.name, gradient)?;
    }
    if let (Some(gradient), Some(bias)) = (computed.bias, bias) {
        gradients.add(&bias.name, gradient)?;
    }
    Ok(computed.input)
}
