//! The feed-forward half of a layer: `down(activation(gate(x)) · up(x))`, or `down(activation(up(x)))` without a gate.

use candle_core::Tensor;
use frostline_schemas::model::{Activation, MlpProjectionSpec, MlpSpec};

use super::branch::{Sublayer, SublayerBackward};
use super::context::{Context, Tokens};
use crate::error::Error;
use crate::model::gradients::Gradients;
use crate::model::modules::Linear;
use crate::model::parameters::Parameters;
use crate::model::scope::Scope;
use crate::ops::activation;

/// A feed-forward network as one layer has it.
#[derive(Clone, Debug)]
pub(super) struct Mlp {
    projection: MlpProjection,
    down: Linear,
    activation: Activation,
}

/// What goes up, and the gate where there is one.
#[derive(Clone, Debug)]
enum MlpProjection {
    Plain(Linear),
    Gated {
        gate: Linear,
        up: Linear,
    },
    /// Both of one matrix: the gate, then what goes up.
    FusedGated(Linear),
}

/// What the projections gave, [tokens, intermediate].
#[derive(Debug)]
pub(super) struct MlpSaved {
    gate: Option<Tensor>,
    up: Tensor,
}

impl Mlp {
    /// A feed-forward network of which the scope's tensors are trained.
    pub(super) fn new(spec: &MlpSpec, scope: &Scope) -> Mlp {
        Mlp {
            projection: MlpProjection::new(&spec.projection, scope),
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

impl MlpProjection {
    fn new(spec: &MlpProjectionSpec, scope: &Scope) -> MlpProjection {
        let linear = |spec| Linear::new(spec, scope);
        match spec {
            MlpProjectionSpec::Plain(up) => MlpProjection::Plain(linear(up)),
            MlpProjectionSpec::Gated { gate, up } => MlpProjection::Gated { gate: linear(gate), up: linear(up) },
            MlpProjectionSpec::FusedGated(both) => MlpProjection::FusedGated(linear(both)),
        }
    }

    fn is_trained(&self) -> bool {
        match self {
            MlpProjection::Gated { gate, up } => gate.is_trained() || up.is_trained(),
            MlpProjection::Plain(linear) | MlpProjection::FusedGated(linear) => linear.is_trained(),
        }
    }

    /// [tokens, hidden] → [tokens, intermediate], or two of it.
    fn forward(&self, parameters: &Parameters, x: &Tensor) -> Result<MlpSaved, Error> {
        match self {
            MlpProjection::Plain(up) => Ok(MlpSaved { gate: None, up: up.forward(parameters, x)? }),
            MlpProjection::Gated { gate, up } => {
                Ok(MlpSaved { gate: Some(gate.forward(parameters, x)?), up: up.forward(parameters, x)? })
            }
            MlpProjection::FusedGated(both) => {
                let both = both.forward(parameters, x)?;
                let width = both.dim(1)? / 2;
                let part = |start: usize| both.narrow(1, start, width)?.contiguous();
                Ok(MlpSaved { gate: Some(part(0)?), up: part(width)? })
            }
        }
    }

    /// Adds the gradients of what is trained, given those of the gate and of what goes up; returns that of `x` where it
    /// is wanted.
    fn backward(
        &self,
        parameters: &Parameters,
        (x, needs_input): (&Tensor, bool),
        (dgate, dup): (Option<Tensor>, Tensor),
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let mut through = |linear: &Linear, dy: Tensor, sum: Option<Tensor>| {
            linear.collect(parameters, x, &dy, gradients)?;
            needs_input.then(|| linear.input_gradient(parameters, &dy, sum)).transpose()
        };
        match (self, dgate) {
            (MlpProjection::Plain(up), None) => through(up, dup, None),
            (MlpProjection::Gated { gate, up }, Some(dgate)) => {
                let sum = through(up, dup, None)?;
                through(gate, dgate, sum)
            }
            (MlpProjection::FusedGated(both), Some(dgate)) => through(both, Tensor::cat(&[dgate, dup], 1)?, None),
            _ => Err(Error::Internal("a gate's gradient where there is a gate")),
        }
    }
}

impl Sublayer for Mlp {
    type Saved = MlpSaved;

    fn is_trained(&self) -> bool {
        self.down.is_trained() || self.projection.is_trained()
    }

    fn forward_saved(
        &self,
        parameters: &Parameters,
        _: &Context,
        x: &Tensor,
        _: Tokens,
    ) -> Result<(Tensor, MlpSaved), Error> {
        let projected = self.projection.forward(parameters, x)?;
        let activated = self.activated(projected.gate.as_ref(), &projected.up)?;
        Ok((self.down.forward(parameters, &activated)?, projected))
    }

    fn backward(
        &self,
        parameters: &Parameters,
        _: &Context,
        saved: MlpSaved,
        back: SublayerBackward,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let MlpSaved { gate, up } = saved;
        if self.down.is_trained() {
            self.down.collect(parameters, &self.activated(gate.as_ref(), &up)?, back.dy, gradients)?;
        }
        if !back.needs_input && !self.projection.is_trained() {
            return Ok(None);
        }
        let dactivated = self.down.input_gradient(parameters, back.dy, None)?;
        let projected = match &gate {
            Some(gate) => {
                let (dgate, dup) = activation::gated_backward(&dactivated, gate, &up, self.activation)?;
                (Some(dgate), dup)
            }
            None => (None, activation::backward(&dactivated, &up, self.activation)?),
        };
        drop((gate, up, dactivated));
        self.projection.backward(parameters, (back.x, back.needs_input), projected, gradients)
    }
}
