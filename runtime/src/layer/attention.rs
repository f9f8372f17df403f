//! The attention half of a layer: projections, norms of queries and keys, rotary embedding, attention, output.

use candle_core::{D, Tensor};
use frostline_schemas::decoder::{AttentionSpec, ProjectionSpec, RopeSpec};

use super::{Context, Inner};
use crate::error::Error;
use crate::gradients::Gradients;
use crate::modules::{self, Linear, Norm};
use crate::ops::{attention, residual, rope};
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

/// Inputs of projections and norms, and what the softmax keeps.
#[derive(Debug)]
pub struct Saved {
    projections: Vec<modules::Saved>,
    query_norm: Option<modules::Saved>,
    key_norm: Option<modules::Saved>,
    attention: attention::Saved,
    output: modules::Saved,
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

    /// Queries, keys and values, [batch, sequence, their heads, head_dim] each.
    fn split(&self, projected: Vec<Tensor>) -> Result<[Tensor; 3], Error> {
        let widths = [self.heads, self.kv_heads, self.kv_heads].map(|heads| heads * self.head_dim);
        let parts: Vec<Tensor> = match (self.projection.fused, projected.as_slice()) {
            (true, [all]) => {
                let starts = [0, widths[0], widths[0] + widths[1]];
                let part = |(start, width)| all.narrow(D::Minus1, start, width);
                starts.into_iter().zip(widths).map(part).collect::<Result<_, _>>()?
            }
            _ => projected,
        };
        let heads = |part: &Tensor| {
            let (batch, sequence, width) = part.dims3()?;
            part.reshape((batch, sequence, width / self.head_dim, self.head_dim))
        };
        match parts.as_slice() {
            [q, k, v] => Ok([heads(q)?, heads(k)?, heads(v)?]),
            _ => Err(Error::Internal("three projections")),
        }
    }

    /// Gradients of the projections' outputs, [batch, sequence, width] each.
    fn join(&self, [q, k, v]: [&Tensor; 3]) -> Result<Vec<Tensor>, Error> {
        let flat = |x: &Tensor| x.contiguous()?.flatten_from(2);
        let parts = vec![flat(q)?, flat(k)?, flat(v)?];
        if self.projection.fused { Ok(vec![Tensor::cat(&parts, 2)?]) } else { Ok(parts) }
    }

    fn turn(&self, context: &Context, x: Tensor) -> Result<Tensor, Error> {
        match self.rope.as_ref().and_then(|spec| context.table(spec, self.head_dim)) {
            Some(table) => Ok(rope::forward(&x, table)?),
            None => Ok(x),
        }
    }

    fn turn_back(&self, context: &Context, dy: Tensor) -> Result<Tensor, Error> {
        match self.rope.as_ref().and_then(|spec| context.table(spec, self.head_dim)) {
            Some(table) => Ok(rope::backward(&dy, table)?),
            None => Ok(dy),
        }
    }
}

impl Inner for Attention {
    type Saved = Saved;

    fn is_trained(&self) -> bool {
        self.output.is_trained() || self.is_trained_below()
    }

    fn forward(&self, parameters: &Parameters, context: &Context, x: &Tensor) -> Result<Tensor, Error> {
        let linears = self.projection.linears.iter();
        let projected = linears.map(|linear| linear.forward(parameters, x)).collect::<Result<_, _>>()?;
        let [mut queries, mut keys, values] = self.split(projected)?;
        if let Some(norm) = &self.query_norm {
            queries = norm.forward(parameters, &queries)?;
        }
        if let Some(norm) = &self.key_norm {
            keys = norm.forward(parameters, &keys)?;
        }
        let (queries, keys) = (self.turn(context, queries)?, self.turn(context, keys)?);
        let (y, _) = attention::forward(&queries, &keys, &values, self.shape)?;
        self.output.forward(parameters, &y)
    }

    fn forward_saved(&self, parameters: &Parameters, context: &Context, x: &Tensor) -> Result<(Tensor, Saved), Error> {
        let (mut projected, mut projections) = (Vec::new(), Vec::new());
        for linear in &self.projection.linears {
            let (y, saved) = linear.forward_saved(parameters, x)?;
            projected.push(y);
            projections.push(saved);
        }
        let [queries, keys, values] = self.split(projected)?;
        let (queries, query_norm) = norm_saved(self.query_norm.as_ref(), parameters, queries)?;
        let (keys, key_norm) = norm_saved(self.key_norm.as_ref(), parameters, keys)?;
        let (queries, keys) = (self.turn(context, queries)?, self.turn(context, keys)?);
        let (y, attention) = attention::forward(&queries, &keys, &values, self.shape)?;
        let (y, output) = self.output.forward_saved(parameters, &y)?;
        Ok((y, Saved { projections, query_norm, key_norm, attention, output }))
    }

    fn backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        saved: Saved,
        dy: &Tensor,
        wants_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, Error> {
        let wants_below = wants_input || self.is_trained_below();
        let Some(dy) = self.output.backward(parameters, &saved.output, dy, wants_below, gradients)? else {
            return Ok(None);
        };
        let (queries, keys, values) = attention::backward(&dy, &saved.attention, self.shape)?;
        let (queries, keys) = (self.turn_back(context, queries)?, self.turn_back(context, keys)?);
        let mut through = |norm: Option<&Norm>, saved: Option<&modules::Saved>, dy: Tensor| match (norm, saved) {
            (Some(norm), Some(saved)) => norm.backward(parameters, saved, &dy.contiguous()?, true, gradients),
            _ => Ok(Some(dy)),
        };
        let queries = through(self.query_norm.as_ref(), saved.query_norm.as_ref(), queries)?;
        let keys = through(self.key_norm.as_ref(), saved.key_norm.as_ref(), keys)?;
        let (Some(queries), Some(keys)) = (queries, keys) else { return Ok(None) };
        let projected = self.join([&queries, &keys, &values])?;
        let mut sum: Option<Tensor> = None;
        for ((linear, saved), dy) in self.projection.linears.iter().zip(&saved.projections).zip(&projected) {
            sum = match (sum, linear.backward(parameters, saved, dy, wants_input, gradients)?) {
                (Some(sum), Some(dx)) => Some(residual::add(&sum, &dx)?),
                (sum, dx) => sum.or(dx),
            };
        }
        Ok(sum)
    }
}

fn norm_saved(
    norm: Option<&Norm>,
    parameters: &Parameters,
    x: Tensor,
) -> Result<(Tensor, Option<modules::Saved>), Error> {
    match norm {
        Some(norm) => norm.forward_saved(parameters, &x).map(|(y, saved)| (y, Some(saved))),
        None => Ok((x, None)),
    }
}
