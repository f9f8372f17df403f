//! A decoder layer: `h += out_norm(attention(norm(h)))`, then `h += out_norm(mlp(norm(h)))`.
//!
//! A layer has three passes: forward alone, which keeps nothing; forward that keeps what backward needs; and backward,
//! which computes the gradients of the tensors that are trained and, where asked, that of the layer's input. Nothing
//! below the lowest trained tensor is visited.

mod attention;
mod mlp;

use candle_core::{Device, Tensor};
use frostline_schemas::decoder::{DecoderConfig, LayerSpec, NormSpec, RopeSpec};

use self::attention::Attention;
use self::mlp::Mlp;
use crate::error::Error;
use crate::gradients::Gradients;
use crate::modules::{self, Norm};
use crate::ops::{residual, rope};
use crate::parameters::Parameters;
use crate::scope::Scope;

/// One decoder layer.
#[derive(Clone, Debug)]
pub struct Layer {
    attention: Branch<Attention>,
    mlp: Branch<Mlp>,
}

/// What backward needs of a layer's forward pass.
#[derive(Debug)]
pub struct Saved {
    attention: BranchSaved<attention::Saved>,
    mlp: BranchSaved<mlp::Saved>,
}

/// What all layers share for sequences of one length: the tables of their rotary embeddings.
#[derive(Debug)]
pub struct Context {
    tables: Vec<(RopeSpec, usize, rope::Table)>,
}

impl Context {
    /// Tables for sequences of `sequence` places.
    pub fn new(config: &DecoderConfig, sequence: usize, device: &Device) -> Result<Context, Error> {
        let mut context = Context { tables: Vec::new() };
        for layer in &config.layers {
            let (Some(spec), head_dim) = (layer.attention.rope, layer.attention.head_dim) else { continue };
            if context.table(&spec, head_dim).is_none() {
                let table = rope::Table::new(&spec, head_dim, sequence, device)?;
                context.tables.push((spec, head_dim, table));
            }
        }
        Ok(context)
    }

    fn table(&self, spec: &RopeSpec, head_dim: usize) -> Option<&rope::Table> {
        self.tables.iter().find(|(s, d, _)| s == spec && *d == head_dim).map(|(_, _, table)| table)
    }
}

impl Layer {
    /// A layer of which the scope's tensors are trained.
    pub fn new(spec: &LayerSpec, scope: &Scope) -> Layer {
        let attention = Attention::new(&spec.attention, scope);
        let mlp = Mlp::new(&spec.mlp, scope);
        Layer {
            attention: Branch::new(&spec.attention_norm, attention, spec.attention_out_norm.as_ref(), scope),
            mlp: Branch::new(&spec.mlp_norm, mlp, spec.mlp_out_norm.as_ref(), scope),
        }
    }

    /// [batch, sequence, hidden] → the same shape; keeps nothing.
    pub fn forward(&self, parameters: &Parameters, context: &Context, hidden: &Tensor) -> Result<Tensor, Error> {
        let hidden = self.attention.forward(parameters, context, hidden)?;
        self.mlp.forward(parameters, context, &hidden)
    }

    /// As [`forward`](Layer::forward), keeping what [`backward`](Layer::backward) needs.
    pub fn forward_saved(
        &self,
        parameters: &Parameters,
        context: &Context,
        hidden: &Tensor,
    ) -> Result<(Tensor, Saved), Error> {
        let (hidden, attention) = self.attention.forward_saved(parameters, context, hidden)?;
        let (hidden, mlp) = self.mlp.forward_saved(parameters, context, &hidden)?;
        Ok((hidden, Saved { attention, mlp }))
    }

    /// Adds the gradients of the trained tensors; returns the input's where it is wanted, [batch, sequence, hidden].
    pub fn backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        saved: Saved,
        dy: Tensor,
        wants_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let wants_middle = wants_input || self.attention.is_trained();
        let dy = self.mlp.backward(parameters, context, saved.mlp, dy, wants_middle, gradients)?;
        match dy {
            Some(dy) => self.attention.backward(parameters, context, saved.attention, dy, wants_input, gradients),
            None => Ok(None),
        }
    }
}

/// What stands between two norms in a branch.
trait Inner {
    type Saved;

    fn is_trained(&self) -> bool;
    fn forward(&self, parameters: &Parameters, context: &Context, x: &Tensor) -> Result<Tensor, Error>;
    fn forward_saved(
        &self,
        parameters: &Parameters,
        context: &Context,
        x: &Tensor,
    ) -> Result<(Tensor, Self::Saved), Error>;
    fn backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        saved: Self::Saved,
        dy: &Tensor,
        wants_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error>;
}

/// One branch off the residual stream: `h + out_norm(inner(norm(h)))`.
#[derive(Clone, Debug)]
struct Branch<T> {
    norm: Norm,
    inner: T,
    out_norm: Option<Norm>,
}

#[derive(Debug)]
struct BranchSaved<S> {
    norm: modules::Saved,
    inner: S,
    out_norm: Option<modules::Saved>,
}

impl<T: Inner> Branch<T> {
    fn new(norm: &NormSpec, inner: T, out_norm: Option<&NormSpec>, scope: &Scope) -> Branch<T> {
        Branch { norm: Norm::new(norm, scope), inner, out_norm: out_norm.map(|norm| Norm::new(norm, scope)) }
    }

    fn is_trained(&self) -> bool {
        self.norm.is_trained() || self.inner.is_trained() || self.out_norm.as_ref().is_some_and(Norm::is_trained)
    }

    fn forward(&self, parameters: &Parameters, context: &Context, hidden: &Tensor) -> Result<Tensor, Error> {
        let normed = self.norm.forward(parameters, hidden)?;
        let mut added = self.inner.forward(parameters, context, &normed)?;
        if let Some(norm) = &self.out_norm {
            added = norm.forward(parameters, &added)?;
        }
        Ok(residual::add(hidden, &added)?)
    }

    fn forward_saved(
        &self,
        parameters: &Parameters,
        context: &Context,
        hidden: &Tensor,
    ) -> Result<(Tensor, BranchSaved<T::Saved>), Error> {
        let (normed, norm) = self.norm.forward_saved(parameters, hidden)?;
        let (mut added, inner) = self.inner.forward_saved(parameters, context, &normed)?;
        let mut out_norm = None;
        if let Some(norm) = &self.out_norm {
            let (normed, saved) = norm.forward_saved(parameters, &added)?;
            (added, out_norm) = (normed, Some(saved));
        }
        Ok((residual::add(hidden, &added)?, BranchSaved { norm, inner, out_norm }))
    }

    fn backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        saved: BranchSaved<T::Saved>,
        dy: Tensor,
        wants_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let wants_normed = wants_input || self.norm.is_trained();
        let wants_added = wants_normed || self.inner.is_trained();
        let added = match (&self.out_norm, &saved.out_norm) {
            (Some(norm), Some(saved)) => norm.backward(parameters, saved, &dy, wants_added, gradients)?,
            _ => wants_added.then(|| dy.clone()),
        };
        let Some(added) = added else { return Ok(None) };
        let normed = self.inner.backward(parameters, context, saved.inner, &added, wants_normed, gradients)?;
        let Some(normed) = normed else { return Ok(None) };
        match self.norm.backward(parameters, &saved.norm, &normed, wants_input, gradients)? {
            Some(dx) => Ok(Some(residual::add(&dy, &dx)?)),
            None => Ok(None),
        }
    }
}
