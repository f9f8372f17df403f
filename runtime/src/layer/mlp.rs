//! The feed-forward half of a layer: `down(activation(gate(x)) · up(x))`, or `down(activation(up(x)))` without a gate.

use candle_core::Tensor;
use frostline_schemas::decoder::{Activation, MlpSpec};

use super::{Context, Inner};
use crate::error::Error;
use crate::gradients::Gradients;
use crate::modules::{self, Linear};
use crate::ops::{activation, residual};
use crate::parameters::Parameters;
use crate::scope::Scope;

/// A feed-forward network as one layer has it; `gate` is there where it is gated.
#[derive(Clone, Debug)]
pub struct Mlp {
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    activation: Activation,
}

/// Inputs of the projections, and the activation's: [batch, sequence, intermediate].
#[derive(Debug)]
pub struct Saved {
    gate: Option<(Tensor, modules::Saved)>,
    up: (Tensor, modules::Saved),
    down: modules::Saved,
}

impl Mlp {
    /// A feed-forward network of which the scope's tensors are trained.
    pub fn new(spec: &MlpSpec, scope: &Scope) -> Mlp {
        Mlp {
            gate: spec.gate.as_ref().map(|gate| Linear::new(gate, scope)),
            up: Linear::new(&spec.up, scope),
            down: Linear::new(&spec.down, scope),
            activation: spec.activation,
        }
    }

    fn projects_trained(&self) -> bool {
        self.up.is_trained() || self.gate.as_ref().is_some_and(Linear::is_trained)
    }
}

impl Inner for Mlp {
    type Saved = Saved;

    fn is_trained(&self) -> bool {
        self.down.is_trained() || self.projects_trained()
    }

    fn forward(&self, parameters: &Parameters, _: &Context, x: &Tensor) -> Result<Tensor, Error> {
        let up = self.up.forward(parameters, x)?;
        let activated = match &self.gate {
            Some(gate) => activation::gated_forward(&gate.forward(parameters, x)?, &up, self.activation)?,
            None => activation::forward(&up, self.activation)?,
        };
        self.down.forward(parameters, &activated)
    }

    fn forward_saved(&self, parameters: &Parameters, _: &Context, x: &Tensor) -> Result<(Tensor, Saved), Error> {
        let up = self.up.forward_saved(parameters, x)?;
        let gate = self.gate.as_ref().map(|gate| gate.forward_saved(parameters, x)).transpose()?;
        let activated = match &gate {
            Some((gate, _)) => activation::gated_forward(gate, &up.0, self.activation)?,
            None => activation::forward(&up.0, self.activation)?,
        };
        let (y, down) = self.down.forward_saved(parameters, &activated)?;
        Ok((y, Saved { gate, up, down }))
    }

    fn backward(
        &self,
        parameters: &Parameters,
        _: &Context,
        saved: Saved,
        dy: &Tensor,
        wants_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let wants_activated = wants_input || self.projects_trained();
        let activated = self.down.backward(parameters, &saved.down, dy, wants_activated, gradients)?;
        let Some(activated) = activated else { return Ok(None) };
        let (up, up_saved) = &saved.up;
        let (Some(gate), Some((gated, gate_saved))) = (&self.gate, &saved.gate) else {
            let up = activation::backward(&activated, up, self.activation)?;
            return self.up.backward(parameters, up_saved, &up, wants_input, gradients);
        };
        let (dgate, dup) = activation::gated_backward(&activated, gated, up, self.activation)?;
        let dgate = gate.backward(parameters, gate_saved, &dgate, wants_input, gradients)?;
        let dup = self.up.backward(parameters, up_saved, &dup, wants_input, gradients)?;
        match (dgate, dup) {
            (Some(dgate), Some(dup)) => Ok(Some(residual::add(&dgate, &dup)?)),
            _ => Ok(None),
        }
    }
}
