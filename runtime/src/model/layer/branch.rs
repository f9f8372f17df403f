//! A branch off the residual stream: a sublayer (attention or MLP) between two norms.

use candle_core::Tensor;
use frostline_schemas::model::NormSpec;

use super::context::{Context, Tokens};
use crate::error::Error;
use crate::model::gradients::Gradients;
use crate::model::modules::Norm;
use crate::model::parameters::Parameters;
use crate::model::scope::Scope;

/// What stands between two norms in a branch.
pub(super) trait Sublayer {
    type Saved;

    fn is_trained(&self) -> bool;

    /// [tokens, hidden] → the same width, at the tokens wanted.
    fn forward(&self, parameters: &Parameters, context: &Context, x: &Tensor, at: Tokens) -> Result<Tensor, Error> {
        Ok(self.forward_saved(parameters, context, x, at)?.0)
    }

    fn forward_saved(
        &self,
        parameters: &Parameters,
        context: &Context,
        x: &Tensor,
        at: Tokens,
    ) -> Result<(Tensor, Self::Saved), Error>;

    /// Adds the gradients of the trained tensors, given the input `x` of the forward pass; returns that of `x` where it
    /// is wanted.
    fn backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        saved: Self::Saved,
        back: SublayerBackward,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error>;
}

/// What a sublayer is given on the way back.
pub(super) struct SublayerBackward<'a> {
    /// Input of the forward pass.
    pub x: &'a Tensor,
    /// Gradient of its output.
    pub dy: &'a Tensor,
    pub at: Tokens,
    pub needs_input: bool,
}

/// One branch off the residual stream, to which it adds `scale · out_norm(sublayer(norm(h)))`.
#[derive(Clone, Debug)]
pub(super) struct Branch<T> {
    norm: Option<Norm>,
    sublayer: T,
    out_norm: Option<Norm>,
    scale: Option<f64>,
}

#[derive(Debug)]
pub(super) struct BranchSaved<S> {
    /// Input of the branch.
    hidden: Tensor,
    sublayer: S,
    /// Input of the norm at its end.
    added: Option<Tensor>,
}

impl<T: Sublayer> Branch<T> {
    pub(super) fn new(norms: [&Option<NormSpec>; 2], sublayer: T, scale: Option<f64>, scope: &Scope) -> Branch<T> {
        let [norm, out_norm] = norms.map(|spec| spec.as_ref().map(|spec| Norm::new(spec, scope)));
        Branch { norm, sublayer, out_norm, scale }
    }

    pub(super) fn is_trained(&self) -> bool {
        self.sublayer.is_trained() || self.norm.iter().chain(&self.out_norm).any(Norm::is_trained)
    }

    fn normed(&self, parameters: &Parameters, hidden: &Tensor) -> Result<Tensor, Error> {
        match &self.norm {
            Some(norm) => norm.forward(parameters, hidden),
            None => Ok(hidden.clone()),
        }
    }

    fn scaled(&self, x: Tensor) -> Result<Tensor, Error> {
        match self.scale {
            Some(scale) => Ok((x * scale)?),
            None => Ok(x),
        }
    }

    pub(super) fn forward(
        &self,
        parameters: &Parameters,
        context: &Context,
        hidden: &Tensor,
        at: Tokens,
    ) -> Result<Tensor, Error> {
        let normed = self.normed(parameters, hidden)?;
        let mut added = self.sublayer.forward(parameters, context, &normed, at)?;
        if let Some(norm) = &self.out_norm {
            added = norm.forward(parameters, &added)?;
        }
        self.scaled(added)
    }

    pub(super) fn forward_saved(
        &self,
        parameters: &Parameters,
        context: &Context,
        hidden: &Tensor,
        at: Tokens,
    ) -> Result<(Tensor, BranchSaved<T::Saved>), Error> {
        let normed = self.normed(parameters, hidden)?;
        let (mut y, sublayer) = self.sublayer.forward_saved(parameters, context, &normed, at)?;
        let mut added = None;
        if let Some(norm) = &self.out_norm {
            let normed = norm.forward(parameters, &y)?;
            added = Some(std::mem::replace(&mut y, normed));
        }
        Ok((self.scaled(y)?, BranchSaved { hidden: hidden.clone(), sublayer, added }))
    }

    pub(super) fn backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        saved: BranchSaved<T::Saved>,
        dy: &Tensor,
        (at, needs_input): (Tokens, bool),
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let needs_normed = needs_input || self.norm.as_ref().is_some_and(Norm::is_trained);
        let needs_added = needs_normed || self.sublayer.is_trained();
        let dy = self.scaled(dy.clone())?;
        let added = match (&self.out_norm, &saved.added) {
            (Some(norm), Some(added)) => norm.backward(parameters, added, &dy, needs_added, gradients)?,
            _ => needs_added.then_some(dy),
        };
        let Some(added) = added else { return Ok(None) };
        let x = self.normed(parameters, &saved.hidden)?;
        let back = SublayerBackward { x: &x, dy: &added, at, needs_input: needs_normed };
        let Some(normed) = self.sublayer.backward(parameters, context, saved.sublayer, back, gradients)? else {
            return Ok(None);
        };
        match &self.norm {
            Some(norm) => norm.backward(parameters, &saved.hidden, &normed, needs_input, gradients),
            None => Ok(Some(normed)),
        }
    }
}
