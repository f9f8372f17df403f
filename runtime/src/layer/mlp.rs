//! The feed-forward half of a layer: `down(activation(gate(x)) · up(x))`, or `down(activation(up(x)))` without a gate.

use candle_core::Tensor;
use frostline_schemas::decoder::{Activation, MlpSpec};

use super::{Context, Inner, Passed, Places};
use crate::error::Error;
use crate::gradients::Gradients;
use crate::modules::Linear;
use crate::ops::activation;
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
            gate: spec.gate.as_ref().map(|gate| Linear::new(gate, scope)),
            up: Linear::new(&spec.up, scope),
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

    fn projects_trained(&self) -> bool {
        self.up.is_trained() || self.gate.as_ref().is_some_and(Linear::is_trained)
    }
}

impl Inner for Mlp {
    type Saved = Saved;

    fn is_trained(&self) -> bool {
        self.down.is_trained() || self.projects_trained()
    }

    fn forward(&self, parameters: &Parameters, context: &Context, x: &Tensor, places: Places) -> Result<Tensor, Error> {
        Ok(self.forward_saved(parameters, context, x, places)?.0)
    }

    fn forward_saved(
        &self,
        parameters: &Parameters,
        _: &Context,
        x: &Tensor,
        _: Places,
    ) -> Result<(Tensor, Saved), Error> {
        let up = self.up.forward(parameters, x)?;
        let gate = self.gate.as_ref().map(|gate| gate.forward(parameters, x)).transpose()?;
        let activated = self.activated(gate.as_ref(), &up)?;
        Ok((self.down.forward(parameters, &activated)?, Saved { gate, up }))
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
            self.down.collect(&self.activated(gate.as_ref(), &up)?, passed.dy, gradients)?;
        }
        if !passed.wants_input && !self.projects_trained() {
            return Ok(None);
        }
        let dactivated = self.down.input_gradient(parameters, passed.dy, None)?;
        let (dgate, dup) = match &gate {
            Some(gate) => {
                let (dgate, dup) = activation::gated_backward(&dactivated, gate, &up, self.activation)?;
                (Some(dgate), dup)
            }
            None => (None, activation::backward(&dactivated, &up, self.activation)?),
        };
        drop((gate, up, dactivated));
        self.up.collect(passed.x, &dup, gradients)?;
        let mut sum = None;
        if passed.wants_input {
            sum = Some(self.up.input_gradient(parameters, &dup, None)?);
        }
        drop(dup);
        if let (Some(gate), Some(dgate)) = (&self.gate, &dgate) {
            gate.collect(passed.x, dgate, gradients)?;
            if passed.wants_input {
                sum = Some(gate.input_gradient(parameters, dgate, sum)?);
            }
        }
        Ok(sum)
    }
}
