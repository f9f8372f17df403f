//! Linear layers and norms as a model has them: an operation, the names of its tensors, and what of it is trained.

use candle_core::Tensor;
use frostline_schemas::model::{LinearSpec, NormSpec, TensorSpec};

use crate::error::Error;
use crate::model::adapters::Adapter;
use crate::model::gradients::Gradients;
use crate::model::parameters::Parameters;
use crate::model::scope::Scope;
use crate::ops::{NeedsGrad, linear, norm};

/// An operation with a weight and perhaps a bias, of which the scope's tensors are trained, or an adapter beside it.
#[derive(Clone, Debug)]
pub(super) struct Module<S> {
    spec: S,
    trains_weight: bool,
    trains_bias: bool,
    adapter: Option<Box<Adapter>>,
}

/// A linear layer.
pub(super) type Linear = Module<LinearSpec>;

/// A norm.
pub(super) type Norm = Module<NormSpec>;

/// What linear layers and norms have alike.
pub(super) trait Spec: Clone {
    fn weight(&self) -> &TensorSpec;
    fn bias(&self) -> Option<&TensorSpec>;
}

impl Spec for LinearSpec {
    fn weight(&self) -> &TensorSpec {
        &self.weight
    }

    fn bias(&self) -> Option<&TensorSpec> {
        self.bias.as_ref()
    }
}

impl Spec for NormSpec {
    fn weight(&self) -> &TensorSpec {
        &self.weight
    }

    fn bias(&self) -> Option<&TensorSpec> {
        self.bias.as_ref()
    }
}

impl<S: Spec> Module<S> {
    /// A module of which the scope's tensors are trained.
    pub(super) fn new(spec: &S, scope: &Scope) -> Module<S> {
        Module {
            trains_weight: scope.holds(spec.weight()),
            trains_bias: scope.holds_any(spec.bias()),
            adapter: scope.adapter(spec.weight()).cloned().map(Box::new),
            spec: spec.clone(),
        }
    }

    /// Whether weight, bias or adapter is trained.
    pub(super) fn is_trained(&self) -> bool {
        self.trains_weight || self.trains_bias || self.adapter.is_some()
    }

    fn bias<'a>(&self, parameters: &'a Parameters) -> Result<Option<&'a Tensor>, Error> {
        self.spec.bias().map(|bias| parameters.vector(bias)).transpose()
    }
}

impl Linear {
    /// [rows, inputs] → [rows, outputs].
    pub(super) fn forward(&self, parameters: &Parameters, x: &Tensor) -> Result<Tensor, Error> {
        let weight = parameters.matrix(&self.spec.weight)?;
        let y = linear::forward(x, &weight, self.bias(parameters)?, self.spec.layout)?;
        match &self.adapter {
            Some(adapter) => adapter.forward(parameters, x, y),
            None => Ok(y),
        }
    }

    /// Adds the gradients of what is trained; `x` is the input of the forward pass.
    pub(super) fn collect(
        &self,
        parameters: &Parameters,
        x: &Tensor,
        dy: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<(), Error> {
        if let Some(adapter) = &self.adapter {
            adapter.collect(parameters, x, dy, gradients)?;
        }
        if self.trains_weight {
            gradients.add_weight(&self.spec, x, dy)?;
        }
        match &self.spec.bias {
            Some(bias) if self.trains_bias => gradients.add(&bias.name, linear::bias_gradient(dy)?),
            _ => Ok(()),
        }
    }

    /// Gradient of the input, added to `sum` where there is one, which nobody else holds.
    pub(super) fn input_gradient(
        &self,
        parameters: &Parameters,
        dy: &Tensor,
        sum: Option<Tensor>,
    ) -> Result<Tensor, Error> {
        let weight = parameters.matrix(&self.spec.weight)?;
        let sum = linear::input_gradient(dy, &weight, self.spec.layout, sum)?;
        match &self.adapter {
            Some(adapter) => adapter.input_gradient(parameters, dy, sum),
            None => Ok(sum),
        }
    }
}

impl Norm {
    /// Size of the dimension that is normalised.
    pub(super) fn width(&self) -> usize {
        self.spec.width()
    }

    /// [.., width] → the same shape.
    pub(super) fn forward(&self, parameters: &Parameters, x: &Tensor) -> Result<Tensor, Error> {
        let weight = parameters.vector(&self.spec.weight)?;
        Ok(norm::forward(x, self.spec.kind, self.spec.epsilon, weight, self.bias(parameters)?)?)
    }

    /// Adds the gradients of what is trained; returns that of the input, `x`, where it is needs_grad.
    pub(super) fn backward(
        &self,
        parameters: &Parameters,
        x: &Tensor,
        dy: &Tensor,
        needs_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let needs_grad = NeedsGrad { input: needs_input, weight: self.trains_weight, bias: self.trains_bias };
        if !needs_grad.any() {
            return Ok(None);
        }
        let weight = parameters.vector(&self.spec.weight)?;
        let computed = norm::backward(dy, x, self.spec.kind, self.spec.epsilon, weight, needs_grad)?;
        if let Some(gradient) = computed.weight {
            gradients.add(&self.spec.weight.name, gradient)?;
        }
        if let (Some(gradient), Some(bias)) = (computed.bias, &self.spec.bias) {
            gradients.add(&bias.name, gradient)?;
        }
        Ok(computed.input)
    }
}
