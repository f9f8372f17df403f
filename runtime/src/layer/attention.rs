//! The attention half of a layer: projections, norms of queries and keys, rotary embedding, attention, output.

use candle_core::Tensor;
use frostline_schemas::decoder::{AttentionSpec, ProjectionSpec, RopeSpec};

use super::{Context, Inner, Passed, Places};
use crate::error::Error;
use crate::gradients::Gradients;
use crate::modules::{Linear, Norm};
use crate::ops::{attention, rope};
use crate::parameters::Parameters;
use crate::scope::Scope;

/// Attention as one layer has it: an operation, its modules and what of them is trained.
#[derive(Clone, Debug)]
pub struct Attention {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    shape: attention::Shape,
    rope: Option<RopeSpec>,
    projection: Projection,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    output: Linear,
}

/// Queries, keys and values from three matrices, or from one whose outputs are all queries, then all keys, then all
/// values.
#[derive(Clone, Debug)]
struct Projection {
    linears: Vec<Linear>,
    fused: bool,
}

/// What the projections gave, [queries or places, their heads, head_dim], and what the softmax keeps.
#[derive(Debug)]
pub struct Saved {
    projected: [Tensor; 3],
    attention: attention::Saved,
}

impl Attention {
    /// An attention of which the scope's tensors are trained.
    pub fn new(spec: &AttentionSpec, scope: &Scope) -> Attention {
        let linear = |spec| Linear::new(spec, scope);
        Attention {
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            shape: attention::Shape { scale: spec.scale, window: spec.window },
            rope: spec.rope,
            projection: Projection {
                linears: spec.projection.linears().into_iter().map(linear).collect(),
                fused: matches!(spec.projection, ProjectionSpec::Fused(_)),
            },
            query_norm: spec.query_norm.as_ref().map(|norm| Norm::new(norm, scope)),
            key_norm: spec.key_norm.as_ref().map(|norm| Norm::new(norm, scope)),
            output: linear(&spec.output),
        }
    }

    /// Whether anything before the softmax is trained.
    fn is_trained_below(&self) -> bool {
        let norms = self.query_norm.iter().chain(&self.key_norm);
        self.projection.linears.iter().any(Linear::is_trained) || norms.into_iter().any(Norm::is_trained)
    }

    /// Queries where they are wanted, keys and values at all places, [rows, their heads, head_dim] each.
    fn project(
        &self,
        parameters: &Parameters,
        context: &Context,
        x: &Tensor,
        places: Places,
    ) -> Result<[Tensor; 3], Error> {
        let [q, k, v] = match self.projection.linears.as_slice() {
            [all] if self.projection.fused => {
                let [q, k, v] = self.split(&all.forward(parameters, x)?)?;
                [context.select(&q, places)?, k, v]
            }
            [q, k, v] => {
                let wanted = context.select(x, places)?;
                [q.forward(parameters, &wanted)?, k.forward(parameters, x)?, v.forward(parameters, x)?]
            }
            _ => return Err(Error::Internal("three projections")),
        };
        let heads = |x: Tensor, heads: usize| x.reshape((x.dim(0)?, heads, self.head_dim));
        Ok([heads(q, self.heads)?, heads(k, self.kv_heads)?, heads(v, self.kv_heads)?])
    }

    /// The outputs of a fused projection.
    fn split(&self, all: &Tensor) -> Result<[Tensor; 3], Error> {
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let part = |start: usize, width: usize| all.narrow(1, start, width)?.contiguous();
        Ok([part(0, queries)?, part(queries, keys)?, part(queries + keys, keys)?])
    }

    /// Queries and keys as the scores see them: normed and turned.
    fn prepare(
        &self,
        parameters: &Parameters,
        context: &Context,
        [q, k]: [&Tensor; 2],
        places: Places,
    ) -> Result<[Tensor; 2], Error> {
        let normed = |norm: &Option<Norm>, x: &Tensor| match norm {
            Some(norm) => norm.forward(parameters, x),
            None => Ok(x.clone()),
        };
        let (q, k) = (normed(&self.query_norm, q)?, normed(&self.key_norm, k)?);
        let Some(table) = self.table(context) else { return Ok([q, k]) };
        let (queries, all) = (context.sequences(places), context.sequences(Places::All));
        Ok([rope::forward(&q, table, queries.query_positions())?, rope::forward(&k, table, all.positions())?])
    }

    /// The gradients of queries and keys as the projections gave them.
    fn prepare_backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        [q, k]: [&Tensor; 2],
        [mut dq, mut dk]: [Tensor; 2],
        places: Places,
        gradients: &mut Gradients,
    ) -> Result<[Tensor; 2], Error> {
        if let Some(table) = self.table(context) {
            dq = rope::backward(&dq, table, context.sequences(places).query_positions())?;
            dk = rope::backward(&dk, table, context.sequences(Places::All).positions())?;
        }
        let mut through = |norm: &Option<Norm>, x: &Tensor, dy: Tensor| match norm {
            Some(norm) => norm.backward(parameters, x, &dy, true, gradients)?.ok_or(Error::Internal("a norm's input")),
            None => Ok(dy),
        };
        Ok([through(&self.query_norm, q, dq)?, through(&self.key_norm, k, dk)?])
    }

    fn table<'a>(&self, context: &'a Context) -> Option<&'a rope::Table> {
        self.rope.as_ref().and_then(|spec| context.table(spec, self.head_dim))
    }

    /// Back through the projections.
    fn project_backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        passed: &Passed,
        projected: [Tensor; 3],
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let mut parts = Vec::new();
        for part in projected {
            parts.push(part.flatten_from(1)?);
        }
        if let ([all], [q, k, v]) = (self.projection.linears.as_slice(), parts.as_slice()) {
            let q = match passed.places {
                Places::All => q.clone(),
                Places::Targets => {
                    let zeros = Tensor::zeros((k.dim(0)?, q.dim(1)?), q.dtype(), q.device())?;
                    context.select_backward(q, passed.places, zeros)?
                }
            };
            let dy = Tensor::cat(&[&q, k, v], 1)?;
            all.collect(passed.x, &dy, gradients)?;
            return passed.wants_input.then(|| all.input_gradient(parameters, &dy, None)).transpose();
        }
        let [q, k, v] = self.projection.linears.as_slice() else {
            return Err(Error::Internal("three projections"));
        };
        q.collect(&context.select(passed.x, passed.places)?, &parts[0], gradients)?;
        k.collect(passed.x, &parts[1], gradients)?;
        v.collect(passed.x, &parts[2], gradients)?;
        if !passed.wants_input {
            return Ok(None);
        }
        let sum = k.input_gradient(parameters, &parts[1], None)?;
        let sum = v.input_gradient(parameters, &parts[2], Some(sum))?;
        match passed.places {
            Places::All => q.input_gradient(parameters, &parts[0], Some(sum)).map(Some),
            places => {
                let wanted = q.input_gradient(parameters, &parts[0], None)?;
                context.select_backward(&wanted, places, sum).map(Some)
            }
        }
    }
}

impl Inner for Attention {
    type Saved = Saved;

    fn is_trained(&self) -> bool {
        self.output.is_trained() || self.is_trained_below()
    }

    fn forward(&self, parameters: &Parameters, context: &Context, x: &Tensor, places: Places) -> Result<Tensor, Error> {
        Ok(self.forward_saved(parameters, context, x, places)?.0)
    }

    fn forward_saved(
        &self,
        parameters: &Parameters,
        context: &Context,
        x: &Tensor,
        places: Places,
    ) -> Result<(Tensor, Saved), Error> {
        let projected = self.project(parameters, context, x, places)?;
        let [q, k] = self.prepare(parameters, context, [&projected[0], &projected[1]], places)?;
        let attention = attention::forward(&q, &k, &projected[2], self.shape, context.sequences(places))?;
        let y = self.output.forward(parameters, &attention.output)?;
        Ok((y, Saved { projected, attention }))
    }

    fn backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        saved: Saved,
        passed: Passed,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        self.output.collect(&saved.attention.output, passed.dy, gradients)?;
        if !passed.wants_input && !self.is_trained_below() {
            return Ok(None);
        }
        let places = passed.places;
        let dy = self.output.input_gradient(parameters, passed.dy, None)?;
        let Saved { projected: [q_raw, k_raw, v], attention } = saved;
        let [q, k] = self.prepare(parameters, context, [&q_raw, &k_raw], places)?;
        let [dq, dk, dv] = attention::backward(&dy, [&q, &k, &v], &attention, self.shape, context.sequences(places))?;
        drop((q, k, v, attention, dy));
        let raw = [&q_raw, &k_raw];
        let [dq, dk] = self.prepare_backward(parameters, context, raw, [dq, dk], places, gradients)?;
        self.project_backward(parameters, context, &passed, [dq, dk, dv], gradients)
    }
}
