//! A decoder layer: two branches off the residual stream, attention and MLP, one after the other or side by side.
//!
//! A layer has three passes: forward alone, which keeps nothing; forward that keeps what backward needs; and backward,
//! which computes the gradients of the tensors that are trained and, where asked, that of the layer's input. Nothing
//! below the lowest trained tensor is visited. What is cheap to compute again (norms, rotations, activations) is not
//! kept.

mod attention;
mod mlp;

use candle_core::{Device, Tensor};
use frostline_schemas::model::{DecoderConfig, LayerSpec, NormSpec, Residual, RopeSpec};

use self::attention::Attention;
use self::mlp::Mlp;
use crate::data::Batch;
use crate::error::Error;
use crate::model::gradients::Gradients;
use crate::model::modules::Norm;
use crate::model::parameters::Parameters;
use crate::model::scope::Scope;
use crate::ops::select::{self, Selection};
use crate::ops::sequences::Sequences;
use crate::ops::{residual, rope};

/// One decoder layer.
#[derive(Clone, Debug)]
pub struct Layer {
    attention: Branch<Attention>,
    mlp: Branch<Mlp>,
    residual: Residual,
}

/// What backward needs of a layer's forward pass.
#[derive(Debug)]
pub enum Saved {
    /// All but what is cheap to compute again.
    Whole(Box<Kept>),
    /// The layer's input alone, [places, hidden].
    Input(Tensor),
}

/// What the two halves of a layer keep.
#[derive(Debug)]
pub struct Kept {
    attention: BranchSaved<attention::Saved>,
    mlp: BranchSaved<mlp::Saved>,
}

/// The places at which a layer's output is wanted. Keys and values are needed at all places either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places {
    All,
    /// Where targets are predicted: of the last layer nothing else is read.
    Targets,
}

/// What all layers share for one batch.
#[derive(Debug)]
pub struct Context {
    all: Sequences,
    at_targets: Sequences,
    targets: Selection,
    /// The tables of the rotary embeddings.
    tables: Vec<(RopeSpec, rope::Table)>,
}

impl Context {
    /// The context of a batch.
    pub fn new(config: &DecoderConfig, batch: &Batch, device: &Device) -> Result<Context, Error> {
        let mut context = Context {
            all: batch.sequences.clone(),
            at_targets: batch.sequences.at(&batch.places),
            targets: Selection::new(batch.places.clone(), device)?,
            tables: Vec::new(),
        };
        for layer in &config.layers {
            let Some(spec) = layer.attention.rope else { continue };
            if context.table(&spec).is_none() {
                let table = rope::Table::new(&spec, batch.sequences.longest(), device)?;
                context.tables.push((spec, table));
            }
        }
        Ok(context)
    }

    fn table(&self, spec: &RopeSpec) -> Option<&rope::Table> {
        self.tables.iter().find(|(of, _)| of == spec).map(|(_, table)| table)
    }

    fn sequences(&self, places: Places) -> &Sequences {
        match places {
            Places::All => &self.all,
            Places::Targets => &self.at_targets,
        }
    }

    /// Of rows for all places those that are wanted.
    pub fn select(&self, x: &Tensor, places: Places) -> Result<Tensor, Error> {
        match places {
            Places::All => Ok(x.clone()),
            Places::Targets => Ok(select::forward(x, &self.targets)?),
        }
    }

    /// Adds the gradient of wanted rows to that of all rows, `sum`, which nobody else holds.
    pub fn select_backward(&self, dy: &Tensor, places: Places, sum: Tensor) -> Result<Tensor, Error> {
        match places {
            Places::All => Ok(residual::add(sum, dy)?),
            Places::Targets => Ok(select::backward(dy, &self.targets, sum)?),
        }
    }
}

impl Layer {
    /// A layer of which the scope's tensors are trained.
    pub fn new(spec: &LayerSpec, scope: &Scope) -> Layer {
        let attention = Attention::new(&spec.attention, scope);
        let mlp = Mlp::new(&spec.mlp, scope);
        Layer {
            attention: Branch::new([&spec.attention_norm, &spec.attention_out_norm], attention, scope),
            mlp: Branch::new([&spec.mlp_norm, &spec.mlp_out_norm], mlp, scope),
            residual: spec.residual,
        }
    }

    /// [places, hidden] → the same width, at the places wanted; keeps nothing.
    pub fn forward(
        &self,
        parameters: &Parameters,
        context: &Context,
        hidden: &Tensor,
        places: Places,
    ) -> Result<Tensor, Error> {
        let attended = self.attention.forward(parameters, context, hidden, places)?;
        let (middle, beside) = self.middle(attended, context.select(hidden, places)?)?;
        let added = self.mlp.forward(parameters, context, &middle, Places::All)?;
        sum(added, &middle, beside.as_ref())
    }

    /// As [`forward`](Layer::forward), keeping what [`backward`](Layer::backward) needs.
    pub fn forward_saved(
        &self,
        parameters: &Parameters,
        context: &Context,
        hidden: &Tensor,
        places: Places,
    ) -> Result<(Tensor, Saved), Error> {
        let (attended, attention) = self.attention.forward_saved(parameters, context, hidden, places)?;
        let (middle, beside) = self.middle(attended, context.select(hidden, places)?)?;
        let (added, mlp) = self.mlp.forward_saved(parameters, context, &middle, Places::All)?;
        Ok((sum(added, &middle, beside.as_ref())?, Saved::Whole(Box::new(Kept { attention, mlp }))))
    }

    /// What the MLP is given of the stream and of what attention adds to it, and what is to be added after it.
    fn middle(&self, attended: Tensor, stream: Tensor) -> Result<(Tensor, Option<Tensor>), Error> {
        match self.residual {
            Residual::Sequential => Ok((residual::add(attended, &stream)?, None)),
            Residual::Parallel => Ok((stream, Some(attended))),
        }
    }

    /// Adds the gradients of the trained tensors; returns the input's where it is wanted, [places, hidden].
    pub fn backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        saved: Saved,
        dy: Tensor,
        (places, wants_input): (Places, bool),
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let kept = match saved {
            Saved::Whole(kept) => kept,
            Saved::Input(hidden) => match self.forward_saved(parameters, context, &hidden, places)?.1 {
                Saved::Whole(kept) => kept,
                Saved::Input(_) => return Err(Error::Internal("a layer that keeps its input alone")),
            },
        };
        let Kept { attention, mlp } = *kept;
        let parallel = self.residual == Residual::Parallel;
        let wants_middle = wants_input || (!parallel && self.attention.is_trained());
        let dmlp = self.mlp.backward(parameters, context, mlp, &dy, (Places::All, wants_middle), gradients)?;
        let dmiddle = dmlp.map(|dx| residual::add(dx, &dy)).transpose()?;
        let dattended = if parallel { Some(&dy) } else { dmiddle.as_ref() };
        let Some(dattended) = dattended else { return Ok(None) };
        let wanted = (places, wants_input);
        let dx = self.attention.backward(parameters, context, attention, dattended, wanted, gradients)?;
        match (dx, dmiddle) {
            (Some(dx), Some(dmiddle)) => Ok(Some(context.select_backward(&dmiddle, places, dx)?)),
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

/// What stands between two norms in a branch.
trait Inner {
    type Saved;

    fn is_trained(&self) -> bool;

    /// [places, hidden] → the same width, at the places wanted.
    fn forward(&self, parameters: &Parameters, context: &Context, x: &Tensor, places: Places) -> Result<Tensor, Error> {
        Ok(self.forward_saved(parameters, context, x, places)?.0)
    }

    fn forward_saved(
        &self,
        parameters: &Parameters,
        context: &Context,
        x: &Tensor,
        places: Places,
    ) -> Result<(Tensor, Self::Saved), Error>;

    /// Adds the gradients of the trained tensors, given the input `x` of the forward pass; returns that of `x` where it
    /// is wanted.
    fn backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        saved: Self::Saved,
        passed: Passed,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error>;
}

/// What passes through a branch's inner part on the way back.
struct Passed<'a> {
    /// Input of the forward pass.
    x: &'a Tensor,
    /// Gradient of its output.
    dy: &'a Tensor,
    places: Places,
    wants_input: bool,
}

/// One branch off the residual stream, of which it adds `out_norm(inner(norm(h)))`.
#[derive(Clone, Debug)]
struct Branch<T> {
    norm: Option<Norm>,
    inner: T,
    out_norm: Option<Norm>,
}

#[derive(Debug)]
struct BranchSaved<S> {
    /// Input of the branch.
    hidden: Tensor,
    inner: S,
    /// Input of the norm at its end.
    added: Option<Tensor>,
}

impl<T: Inner> Branch<T> {
    fn new(norms: [&Option<NormSpec>; 2], inner: T, scope: &Scope) -> Branch<T> {
        let [norm, out_norm] = norms.map(|spec| spec.as_ref().map(|spec| Norm::new(spec, scope)));
        Branch { norm, inner, out_norm }
    }

    fn is_trained(&self) -> bool {
        self.inner.is_trained() || self.norm.iter().chain(&self.out_norm).any(Norm::is_trained)
    }

    fn normed(&self, parameters: &Parameters, hidden: &Tensor) -> Result<Tensor, Error> {
        match &self.norm {
            Some(norm) => norm.forward(parameters, hidden),
            None => Ok(hidden.clone()),
        }
    }

    fn forward(
        &self,
        parameters: &Parameters,
        context: &Context,
        hidden: &Tensor,
        places: Places,
    ) -> Result<Tensor, Error> {
        let normed = self.normed(parameters, hidden)?;
        let added = self.inner.forward(parameters, context, &normed, places)?;
        match &self.out_norm {
            Some(norm) => norm.forward(parameters, &added),
            None => Ok(added),
        }
    }

    fn forward_saved(
        &self,
        parameters: &Parameters,
        context: &Context,
        hidden: &Tensor,
        places: Places,
    ) -> Result<(Tensor, BranchSaved<T::Saved>), Error> {
        let normed = self.normed(parameters, hidden)?;
        let (mut y, inner) = self.inner.forward_saved(parameters, context, &normed, places)?;
        let mut added = None;
        if let Some(norm) = &self.out_norm {
            let normed = norm.forward(parameters, &y)?;
            added = Some(std::mem::replace(&mut y, normed));
        }
        Ok((y, BranchSaved { hidden: hidden.clone(), inner, added }))
    }

    fn backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        saved: BranchSaved<T::Saved>,
        dy: &Tensor,
        (places, wants_input): (Places, bool),
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let wants_normed = wants_input || self.norm.as_ref().is_some_and(Norm::is_trained);
        let wants_added = wants_normed || self.inner.is_trained();
        let added = match (&self.out_norm, &saved.added) {
            (Some(norm), Some(added)) => norm.backward(parameters, added, dy, wants_added, gradients)?,
            _ => wants_added.then(|| dy.clone()),
        };
        let Some(added) = added else { return Ok(None) };
        let x = self.normed(parameters, &saved.hidden)?;
        let passed = Passed { x: &x, dy: &added, places, wants_input: wants_normed };
        let Some(normed) = self.inner.backward(parameters, context, saved.inner, passed, gradients)? else {
            return Ok(None);
        };
        match &self.norm {
            Some(norm) => norm.backward(parameters, &saved.hidden, &normed, wants_input, gradients),
            None => Ok(Some(normed)),
        }
    }
}
