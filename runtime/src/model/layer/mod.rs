//! A decoder layer: two branches off the residual stream, attention and MLP, one after the other or side by side.
//!
//! A layer has three passes: forward alone, which keeps nothing; forward that keeps what backward needs; and backward,
//! which computes the gradients of the tensors that are trained and, where asked, that of the layer's input. Nothing
//! below the lowest trained tensor is visited. What is cheap to compute again (norms, rotations, activations) is not
//! kept.

mod attention;
mod branch;
mod context;
mod mlp;

use candle_core::Tensor;
use frostline_schemas::model::{LayerSpec, Residual};

use self::attention::Attention;
use self::branch::{Branch, BranchSaved};
pub(super) use self::context::{Context, Tokens};
use self::mlp::Mlp;
use crate::error::Error;
use crate::model::gradients::Gradients;
use crate::model::parameters::Parameters;
use crate::model::scope::Scope;
use crate::ops::residual;

/// One decoder layer.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    attention: Branch<Attention>,
    mlp: Branch<Mlp>,
    residual: Residual,
}

/// What backward needs of a layer's forward pass.
#[derive(Debug)]
pub(super) enum LayerSaved {
    /// All but what is cheap to compute again.
    Whole(Box<Kept>),
    /// The layer's input alone, [tokens, hidden].
    Input(Tensor),
}

/// What the two halves of a layer keep.
#[derive(Debug)]
pub(super) struct Kept {
    attention: BranchSaved<attention::AttentionSaved>,
    mlp: BranchSaved<mlp::MlpSaved>,
}

impl Layer {
    /// A layer of which the scope's tensors are trained.
    pub(super) fn new(spec: &LayerSpec, scope: &Scope) -> Layer {
        let attention = Attention::new(&spec.attention, scope);
        let mlp = Mlp::new(&spec.mlp, scope);
        Layer {
            attention: Branch::new(
                [&spec.attention_norm, &spec.attention_out_norm],
                attention,
                spec.residual_scale,
                scope,
            ),
            mlp: Branch::new([&spec.mlp_norm, &spec.mlp_out_norm], mlp, spec.residual_scale, scope),
            residual: spec.residual,
        }
    }

    /// [tokens, hidden] → the same width, at the tokens wanted; keeps nothing.
    pub(super) fn forward(
        &self,
        parameters: &Parameters,
        context: &Context,
        hidden: &Tensor,
        at: Tokens,
    ) -> Result<Tensor, Error> {
        let attended = self.attention.forward(parameters, context, hidden, at)?;
        let (middle, beside) = self.middle(attended, context.select(hidden, at)?)?;
        let added = self.mlp.forward(parameters, context, &middle, Tokens::All)?;
        sum(added, &middle, beside.as_ref())
    }

    /// As [`forward`](Layer::forward), keeping what [`backward`](Layer::backward) needs.
    pub(super) fn forward_saved(
        &self,
        parameters: &Parameters,
        context: &Context,
        hidden: &Tensor,
        at: Tokens,
    ) -> Result<(Tensor, LayerSaved), Error> {
        let (attended, attention) = self.attention.forward_saved(parameters, context, hidden, at)?;
        let (middle, beside) = self.middle(attended, context.select(hidden, at)?)?;
        let (added, mlp) = self.mlp.forward_saved(parameters, context, &middle, Tokens::All)?;
        Ok((sum(added, &middle, beside.as_ref())?, LayerSaved::Whole(Box::new(Kept { attention, mlp }))))
    }

    /// What the MLP is given of the stream and of what attention adds to it, and what is to be added after it.
    fn middle(&self, attended: Tensor, stream: Tensor) -> Result<(Tensor, Option<Tensor>), Error> {
        match self.residual {
            Residual::Sequential => Ok((residual::add(attended, &stream)?, None)),
            Residual::Parallel => Ok((stream, Some(attended))),
        }
    }

    /// Adds the gradients of the trained tensors; returns the input's where it is wanted, [tokens, hidden].
    pub(super) fn backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        saved: LayerSaved,
        dy: Tensor,
        (at, needs_input): (Tokens, bool),
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let kept = match saved {
            LayerSaved::Whole(kept) => kept,
            LayerSaved::Input(hidden) => match self.forward_saved(parameters, context, &hidden, at)?.1 {
                LayerSaved::Whole(kept) => kept,
                LayerSaved::Input(_) => return Err(Error::Internal("a layer that keeps its input alone")),
            },
        };
        let Kept { attention, mlp } = *kept;
        let parallel = self.residual == Residual::Parallel;
        let needs_middle = needs_input || (!parallel && self.attention.is_trained());
        let dmlp = self.mlp.backward(parameters, context, mlp, &dy, (Tokens::All, needs_middle), gradients)?;
        let dmiddle = dmlp.map(|dx| residual::add(dx, &dy)).transpose()?;
        let dattended = if parallel { Some(&dy) } else { dmiddle.as_ref() };
        let Some(dattended) = dattended else { return Ok(None) };
        let wanted = (at, needs_input);
        let dx = self.attention.backward(parameters, context, attention, dattended, wanted, gradients)?;
        match (dx, dmiddle) {
            (Some(dx), Some(dmiddle)) => Ok(Some(context.select_backward(&dmiddle, at, dx)?)),
            _ => Ok(None),
        }
    }
}

/// What a layer makes of the stream: what its MLP adds, what that was given, and what attention adds beside it.
fn sum(added: Tensor, middle: &Tensor, beside: Option<&Tensor>) -> Result<Tensor, Error> {
    let sum = residual::add(added, middle)?;
    match beside {
        Some(attended) => Ok(residual::add(sum, attended)?),
        None => Ok(sum),
    }
}
