//! Causal attention with grouped heads and sliding windows: `softmax(scale · q kᵀ) v`, softmax in f32.

use candle_core::{D, Device, Result, Tensor};

use super::cpu;

/// The shape of an attention that no tensor shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// What the scores are multiplied by before the softmax.
    pub scale: f64,
    /// A query sees itself and the `window − 1` places before it; all places before it where `None`.
    pub window: Option<usize>,
}

/// What [`backward`] needs: queries times the scale, keys and values by head, and the softmax's output.
#[derive(Debug)]
pub struct Saved {
    /// [batch, kv_heads, group · sequence, head_dim], scaled.
    queries: Tensor,
    /// [batch, kv_heads, sequence, head_dim].
    keys: Tensor,
    values: Tensor,
    /// [batch, kv_heads, group · sequence, sequence].
    probabilities: Tensor,
}

/// Queries [batch, sequence, heads, head_dim], keys and values [batch, sequence, kv_heads, head_dim] →
/// [batch, sequence, heads · head_dim]. Head h reads key and value head h / (heads / kv_heads).
pub fn forward(queries: &Tensor, keys: &Tensor, values: &Tensor, shape: Shape) -> Result<(Tensor, Saved)> {
    let (batch, sequence, heads, head_dim) = queries.dims4()?;
    let kv_heads = keys.dim(2)?;
    let grouped = (batch, kv_heads, heads / kv_heads * sequence, head_dim);
    let queries = (by_head(queries)? * shape.scale)?.reshape(grouped)?;
    let (keys, values) = (by_head(keys)?, by_head(values)?);
    let scores = queries.matmul(&keys.t()?)?;
    let probabilities = softmax(scores, shape.window)?;
    let y = probabilities.matmul(&values)?.reshape((batch, heads, sequence, head_dim))?;
    let y = y.transpose(1, 2)?.reshape((batch, sequence, heads * head_dim))?;
    Ok((y, Saved { queries, keys, values, probabilities }))
}

/// Gradients of queries, keys and values from dy [batch, sequence, heads · head_dim].
///
/// With P the probabilities: `dv = Pᵀ dy`, `dP = dy vᵀ`, `dS = P (dP − Σ dP P)`, `dq = scale · dS k`,
/// `dk = dSᵀ (scale · q)`. The heads of a group meet in one product, so that their sums need no step of their own.
pub fn backward(dy: &Tensor, saved: &Saved, shape: Shape) -> Result<(Tensor, Tensor, Tensor)> {
    let (batch, kv_heads, grouped, head_dim) = saved.queries.dims4()?;
    let sequence = saved.keys.dim(2)?;
    let heads = kv_heads * grouped / sequence;
    let dy = by_head(&dy.reshape((batch, sequence, heads, head_dim))?)?;
    let dy = dy.reshape((batch, kv_heads, grouped, head_dim))?;
    let p = &saved.probabilities;
    let values = p.transpose(2, 3)?.matmul(&dy)?.transpose(1, 2)?;
    let dp = dy.matmul(&saved.values.t()?)?;
    let ds = softmax_backward(&dp, p)?;
    let queries = (ds.matmul(&saved.keys)? * shape.scale)?;
    let queries = queries.reshape((batch, heads, sequence, head_dim))?.transpose(1, 2)?;
    let keys = ds.transpose(2, 3)?.matmul(&saved.queries)?.transpose(1, 2)?;
    Ok((queries, keys, values))
}

/// Softmax of scores [batch, kv_heads, group · sequence, sequence] over what each query sees.
fn softmax(scores: Tensor, window: Option<usize>) -> Result<Tensor> {
    let sequence = scores.dim(D::Minus1)?;
    if scores.device().is_cpu() { cpu::causal_softmax(scores, sequence, window) } else { composed(&scores, window) }
}

fn composed(scores: &Tensor, window: Option<usize>) -> Result<Tensor> {
    let sequence = scores.dim(D::Minus1)?;
    let mask = mask(sequence, window, scores.device())?;
    let masked = scores.reshape(((), sequence, sequence))?.broadcast_add(&mask)?;
    candle_nn::ops::softmax_last_dim(&masked)?.reshape(scores.shape())
}

fn softmax_backward(dp: &Tensor, p: &Tensor) -> Result<Tensor> {
    if dp.device().is_cpu() { cpu::softmax_backward(dp, p) } else { composed_backward(dp, p) }
}

fn composed_backward(dp: &Tensor, p: &Tensor) -> Result<Tensor> {
    let weighted = (dp * p)?;
    let sums = weighted.sum_keepdim(D::Minus1)?;
    weighted - p.broadcast_mul(&sums)?
}

/// [batch, sequence, heads, head_dim] → [batch, heads, sequence, head_dim], laid out so.
fn by_head(x: &Tensor) -> Result<Tensor> {
    x.transpose(1, 2)?.contiguous()
}

/// [sequence, sequence]: 0 where the query (row) sees the key (column), −∞ elsewhere.
fn mask(sequence: usize, window: Option<usize>, device: &Device) -> Result<Tensor> {
    let mut values = vec![f32::NEG_INFINITY; sequence * sequence];
    for (query, row) in values.chunks_exact_mut(sequence.max(1)).enumerate() {
        row[first_seen(query, window)..=query].fill(0.0);
    }
    Tensor::from_vec(values, (sequence, sequence), device)
}

/// The first place that the query at `place` sees.
pub(super) fn first_seen(place: usize, window: Option<usize>) -> usize {
    window.map_or(0, |window| (place + 1).saturating_sub(window))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, random};
    use super::*;

    #[test]
    fn both_spellings_agree() {
        for window in [None, Some(1), Some(3), Some(50)] {
            let scores = random(&[2, 2, 27, 9], 1);
            let expected = composed(&scores, window).unwrap();
            let p = softmax(scores.copy().unwrap(), window).unwrap();
            close(&p, &expected);
            let dp = random(&[2, 2, 27, 9], 2);
            close(&softmax_backward(&dp, &p).unwrap(), &composed_backward(&dp, &p).unwrap());
        }
    }
}
