//! The attention half of a layer: projections, norms of queries and keys, rotary embedding, attention, output.

use candle_core::Tensor;
use frostline_schemas::model::{AttentionSpec, ProjectionSpec, RopeSpec};

use super::branch::{Sublayer, SublayerBackward};
use super::context::{Context, Tokens};
use crate::error::Error;
use crate::model::gradients::Gradients;
use crate::model::modules::{Linear, Norm};
use crate::model::parameters::Parameters;
use crate::model::scope::Scope;
use crate::ops::{attention, rope};

/// Attention as one layer has it: an operation, its modules and what of them is trained.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scoring: attention::Scoring,
    rope: Option<RopeSpec>,
    projection: QueryKeyValue,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    output: Linear,
}

/// Queries, keys and values from three matrices, or from one.
#[derive(Clone, Debug)]
struct QueryKeyValue {
    linears: Vec<Linear>,
    /// Whether the one's outputs are head after head, rather than all queries, then all keys, then all values.
    interleaved: bool,
}

/// What the projections gave, [queries or tokens, their heads, head_dim], and what the softmax keeps.
#[derive(Debug)]
pub(super) struct AttentionSaved {
    projected: [Tensor; 3],
    attention: attention::Attended,
}

impl Attention {
    /// An attention of which the scope's tensors are trained.
    pub(super) fn new(spec: &AttentionSpec, scope: &Scope) -> Attention {
        let linear = |spec| Linear::new(spec, scope);
        Attention {
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            scoring: attention::Scoring { scale: spec.scale, softcap: spec.softcap, window: spec.window },
            rope: spec.rope,
            projection: QueryKeyValue {
                linears: spec.projection.linears().into_iter().map(linear).collect(),
                interleaved: matches!(spec.projection, ProjectionSpec::Interleaved(_)),
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

    /// Queries where they are wanted, keys and values at all tokens, [rows, their heads, head_dim] each.
    fn project(
        &self,
        parameters: &Parameters,
        context: &Context,
        x: &Tensor,
        at: Tokens,
    ) -> Result<[Tensor; 3], Error> {
        let [q, k, v] = match self.projection.linears.as_slice() {
            [all] => {
                let [q, k, v] = self.split(&all.forward(parameters, x)?)?;
                [context.select(&q, at)?, k, v]
            }
            [q, k, v] => {
                let wanted = context.select(x, at)?;
                [q.forward(parameters, &wanted)?, k.forward(parameters, x)?, v.forward(parameters, x)?]
            }
            _ => return Err(Error::Internal("three projections")),
        };
        let heads = |x: Tensor, heads: usize| x.reshape((x.dim(0)?, heads, self.head_dim));
        Ok([heads(q, self.heads)?, heads(k, self.kv_heads)?, heads(v, self.kv_heads)?])
    }

    /// Queries, keys and values out of what one matrix gives.
    fn split(&self, all: &Tensor) -> Result<[Tensor; 3], Error> {
        if self.projection.interleaved {
            let heads = all.reshape((all.dim(0)?, self.heads, 3 * self.head_dim))?;
            let part = |k: usize| heads.narrow(2, k * self.head_dim, self.head_dim)?.flatten_from(1)?.contiguous();
            return Ok([part(0)?, part(1)?, part(2)?]);
        }
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let part = |start: usize, width: usize| all.narrow(1, start, width)?.contiguous();
        Ok([part(0, queries)?, part(queries, keys)?, part(queries + keys, keys)?])
    }

    /// Undoes [`split`](Attention::split).
    fn join(&self, parts: [&Tensor; 3]) -> Result<Tensor, Error> {
        if !self.projection.interleaved {
            return Ok(Tensor::cat(&parts, 1)?);
        }
        let mut heads = Vec::new();
        for part in parts {
            heads.push(part.reshape((part.dim(0)?, self.heads, self.head_dim))?);
        }
        Ok(Tensor::cat(&heads, 2)?.flatten_from(1)?)
    }

    /// Queries and keys as the scores see them: normalised and rotated.
    fn prepare(
        &self,
        parameters: &Parameters,
        context: &Context,
        [q, k]: [&Tensor; 2],
        at: Tokens,
    ) -> Result<[Tensor; 2], Error> {
        let normed = |norm: &Option<Norm>, x: &Tensor| -> Result<Tensor, Error> {
            let Some(norm) = norm else { return Ok(x.clone()) };
            Ok(norm.forward(parameters, &by_width(x, norm)?)?.reshape(x.shape())?)
        };
        let (q, k) = (normed(&self.query_norm, q)?, normed(&self.key_norm, k)?);
        let Some(table) = self.table(context) else { return Ok([q, k]) };
        let (queries, all) = (context.sequences(at), context.sequences(Tokens::All));
        Ok([rope::forward(&q, table, queries.query_positions())?, rope::forward(&k, table, all.positions())?])
    }

    /// The gradients of queries and keys as the projections gave them.
    fn prepare_backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        [q, k]: [&Tensor; 2],
        [mut dq, mut dk]: [Tensor; 2],
        at: Tokens,
        gradients: &mut Gradients,
    ) -> Result<[Tensor; 2], Error> {
        if let Some(table) = self.table(context) {
            dq = rope::backward(&dq, table, context.sequences(at).query_positions())?;
            dk = rope::backward(&dk, table, context.sequences(Tokens::All).positions())?;
        }
        let mut through = |norm: &Option<Norm>, x: &Tensor, dy: Tensor| -> Result<Tensor, Error> {
            let Some(norm) = norm else { return Ok(dy) };
            let (x, dnormed) = (by_width(x, norm)?, by_width(&dy, norm)?);
            let dx = norm.backward(parameters, &x, &dnormed, true, gradients)?;
            Ok(dx.ok_or(Error::Internal("a norm's input"))?.reshape(dy.shape())?)
        };
        Ok([through(&self.query_norm, q, dq)?, through(&self.key_norm, k, dk)?])
    }

    fn table<'a>(&self, context: &'a Context) -> Option<&'a rope::Table> {
        self.rope.as_ref().and_then(|spec| context.table(spec))
    }

    /// Back through the projections.
    fn project_backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        back: &SublayerBackward,
        projected: [Tensor; 3],
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let mut parts = Vec::new();
        for part in projected {
            parts.push(part.flatten_from(1)?);
        }
        if let ([all], [q, k, v]) = (self.projection.linears.as_slice(), parts.as_slice()) {
            let q = match back.at {
                Tokens::All => q.clone(),
                Tokens::Targets => {
                    let zeros = Tensor::zeros((k.dim(0)?, q.dim(1)?), q.dtype(), q.device())?;
                    context.select_backward(q, back.at, zeros)?
                }
            };
            let dy = self.join([&q, k, v])?;
            all.collect(parameters, back.x, &dy, gradients)?;
            return back.needs_input.then(|| all.input_gradient(parameters, &dy, None)).transpose();
        }
        let [q, k, v] = self.projection.linears.as_slice() else {
            return Err(Error::Internal("three projections"));
        };
        q.collect(parameters, &context.select(back.x, back.at)?, &parts[0], gradients)?;
        k.collect(parameters, back.x, &parts[1], gradients)?;
        v.collect(parameters, back.x, &parts[2], gradients)?;
        if !back.needs_input {
            return Ok(None);
        }
        let sum = k.input_gradient(parameters, &parts[1], None)?;
        let sum = v.input_gradient(parameters, &parts[2], Some(sum))?;
        match back.at {
            Tokens::All => q.input_gradient(parameters, &parts[0], Some(sum)).map(Some),
            at => {
                let wanted = q.input_gradient(parameters, &parts[0], None)?;
                context.select_backward(&wanted, at, sum).map(Some)
            }
        }
    }
}

/// [rows, heads, head_dim] as a norm of each head, or one of all heads together, sees it.
fn by_width(x: &Tensor, norm: &Norm) -> Result<Tensor, Error> {
    Ok(x.reshape(((), norm.width()))?)
}

impl Sublayer for Attention {
    type Saved = AttentionSaved;

    fn is_trained(&self) -> bool {
        self.output.is_trained() || self.is_trained_below()
    }

    fn forward_saved(
        &self,
        parameters: &Parameters,
        context: &Context,
        x: &Tensor,
        at: Tokens,
    ) -> Result<(Tensor, AttentionSaved), Error> {
        let projected = self.project(parameters, context, x, at)?;
        let [q, k] = self.prepare(parameters, context, [&projected[0], &projected[1]], at)?;
        let attention = attention::forward(&q, &k, &projected[2], self.scoring, context.sequences(at))?;
        let y = self.output.forward(parameters, &attention.output)?;
        Ok((y, AttentionSaved { projected, attention }))
    }

    fn backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        saved: AttentionSaved,
        back: SublayerBackward,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        self.output.collect(parameters, &saved.attention.output, back.dy, gradients)?;
        if !back.needs_input && !self.is_trained_below() {
            return Ok(None);
        }
        let at = back.at;
        let dy = self.output.input_gradient(parameters, back.dy, None)?;
        let AttentionSaved { projected: [q_raw, k_raw, v], attention } = saved;
        let [q, k] = self.prepare(parameters, context, [&q_raw, &k_raw], at)?;
        let [dq, dk, dv] = attention::backward(&dy, [&q, &k, &v], &attention, self.scoring, context.sequences(at))?;
        drop((q, k, v, attention, dy));
        let raw = [&q_raw, &k_raw];
        let [dq, dk] = self.prepare_backward(parameters, context, raw, [dq, dk], at, gradients)?;
        self.project_backward(parameters, context, &back, [dq, dk, dv], gradients)
    }
}
