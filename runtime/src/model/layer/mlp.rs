//! The feed-forward half of a layer: `down(activation(gate(x)) · up(x))`, or `down(activation(up(x)))` without a gate.

use candle_core::Tensor;
use frostline_schemas::model::{Activation, MlpProjectionSpec, MlpSpec};

use super::{Context, Inner, Passed, Places};
use crate::error::Error;
use crate::model::gradients::Gradients;
use crate::model::modules::Linear;
use crate::model::parameters::Parameters;
use crate::model::scope::Scope;
use crate::ops::activation;

/// A feed-forward network as one layer has it.
#[derive(Clone, Debug)]
pub struct Mlp {
    projection: Projection,
    down: Linear,
    activation: Activation,
}

/// What goes up, and the gate where there is one.
#[derive(Clone, Debug)]
enum Projection {
    Plain(Linear),
    Gated {
        gate: Linear,
        up: Linear,
    },
    /// Both of one matrix: the gate, then what goes up.
    FusedGated(Linear),
}

/// What the projections gave, [places, intermediate].
#[derive(Debug)]
pub struct Saved {
    gate: Option<Tensor>,
    up: Tensor,
}

impl Mlp {
    /// A feed-forward network of which the scope's tensors are trained.
    pub fn new(spec: &MlpSpec, scope: &Scope) -> Mlp {
        Mlp {
            projection: Projection::new(&spec.projection, scope),
            down: Linear::new(&spec.down, scope),
            activation: spec.activation,
        }
    }

    fn activated(&self, gate: Option<&Tensor>, up: &Tensor) -> Result<Tensor, Error> {
        match gate {
            Some(gate) => Ok(activation::gated_forward(gate, up, self.activation)?),
            None => Ok(activation::forward(up, self.activation)?),
        }
    }
}

impl Projection {
    fn new(spec: &MlpProjectionSpec, scope: &Scope) -> Projection {
        let linear = |spec| Linear::new(spec, scope);
        match spec {
            MlpProjectionSpec::Plain(up) => Projection::Plain(linear(up)),
            MlpProjectionSpec::Gated { gate, up } => Projection::Gated { gate: linear(gate), up: linear(up) },
            MlpProjectionSpec::FusedGated(both) => Projection::FusedGated(linear(both)),
        }
    }

    fn is_trained(&self) -> bool {
        match self {
            Projection::Gated { gate, up } => gate.is_trained() || up.is_trained(),
            Projection::Plain(linear) | Projection::FusedGated(linear) => linear.is_trained(),
        }
    }

    /// [places, hidden] → [places, intermediate], or two of it.
    fn forward(&self, parameters: &Parameters, x: &Tensor) -> Result<Saved, Error> {
        match self {
            Projection::Plain(up) => Ok(Saved { gate: None, up: up.forward(parameters, x)? }),
            Projection::Gated { gate, up } => {
                Ok(Saved { gate: Some(gate.forward(parameters, x)?), up: up.forward(parameters, x)? })
            }
            Projection::FusedGated(both) => {
                let both = both.forward(parameters, x)?;
                let width = both.dim(1)? / 2;
                let part = |start: usize| both.narrow(1, start, width)?.contiguous();
                Ok(Saved { gate: Some(part(0)?), up: part(width)? })
            }
        }
    }

    /// Adds the gradients of what is trained, given those of the gate and of what goes up; returns that of `x` where it
    /// is wanted.
    fn backward(
        &self,
        parameters: &Parameters,
        (x, wants_input): (&Tensor, bool),
        (dgate, dup): (Option<Tensor>, Tensor),
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let mut through = |linear: &Linear, dy: Tensor, sum: Option<Tensor>| {
            linear.collect(parameters, x, &dy, gradients)?;
            wants_input.then(|| linear.input_gradient(parameters, &dy, sum)).transpose()
        };
        match (self, dgate) {
            (Projection::Plain(up), None) => through(up, dup, None),
            (Projection::Gated { gate, up }, Some(dgate)) => {
                let sum = through(up, dup, None)?;
                through(gate, dgate, sum)
            }
            (Projection::FusedGated(both), Some(dgate)) => through(both, Tensor::cat(&[dgate, dup], 1)?, None),
            _ => Err(Error::Internal("a gate's gradient where there is a gate")),
        }
    }
}

impl Inner for Mlp {
    type Saved = Saved;

    fn is_trained(&self) -> bool {
        self.down.is_trained() || self.projection.is_trained()
    }

    fn forward_saved(
        &self,
        parameters: &Parameters,
        _: &Context,
        x: &Tensor,
        _: Places,
    ) -> Result<(Tensor, Saved), Error> {
        let projected = self.projection.forward(parameters, x)?;
        let activated = self.activated(projected.gate.as_ref(), &projected.up)?;
        Ok((self.down.forward(parameters, &activated)?, projected))
    }

    fn backward(
        &self,
        parameters: &Parameters,
        _: &Context,
        saved: Saved,
        passed: Passed,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let Saved { gate, up } = saved;
        if self.down.is_trained() {
            self.down.collect(parameters, &self.activated(gate.as_ref(), &up)?, passed.dy, gradients)?;
        }
        if !passed.wants_input && !self.projection.is_trained() {
            return Ok(None);
        }
        let dactivated = self.down.input_gradient(parameters, passed.dy, None)?;
        let projected = match &gate {
            Some(gate) => {
                let (dgate, dup) = activation::gated_backward(&dactivated, gate, &up, self.activation)?;
                (Some(dgate), dup)
            }
            None => (None, activation::backward(&dactivated, &up, self.activation)?),
        };
        drop((gate, up, dactivated));
        self.projection.backward(parameters, (passed.x, passed.wants_input), projected, gradients)
    }
}
