//! Causal attention with grouped heads and sliding windows: `softmax(scale · q kᵀ) v`, softmax in f32.
//!
//! Nothing of the size of the scores is kept: backward computes them again from queries and keys.

use candle_core::{D, DType, Device, Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use super::sequences::Sequences;
use super::{cpu, on_kernels};

/// The shape of an attention that no tensor shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// What the scores are multiplied by before the softmax.
    pub scale: f64,
    /// A query sees itself and the `window − 1` places before it; all places before it where `None`.
    pub window: Option<usize>,
}

/// What [`backward`] needs beside queries, keys and values.
#[derive(Debug)]
pub struct Saved {
    /// [queries, heads · head_dim].
    pub output: Tensor,
    /// ln Σ exp of each query's scaled scores, head by head; on the CPU alone.
    normalisers: Vec<f32>,
}

/// Queries [queries, heads, head_dim], keys and values [places, kv_heads, head_dim] → output
/// [queries, heads · head_dim]. Head h reads key and value head h / (heads / kv_heads).
pub fn forward(q: &Tensor, k: &Tensor, v: &Tensor, shape: Shape, sequences: &Sequences) -> Result<Saved> {
    if on_kernels(q) {
        let (output, normalisers) = cpu::attention::forward(q, k, v, shape, sequences)?;
        return Ok(Saved { output, normalisers });
    }
    #[cfg(feature = "cuda")]
    if cuda::takes([q, k, v]) {
        return Ok(Saved { output: fused(q, k, v, shape, sequences)?, normalisers: Vec::new() });
    }
    Ok(Saved { output: composed(q, k, v, shape, sequences)?, normalisers: Vec::new() })
}

/// Gradients of queries, keys and values, each in its own shape, from dy [queries, heads · head_dim].
///
/// With P the probabilities: `dv = Pᵀ dy`, `dP = dy vᵀ`, `dS = P (dP − Σ dP P)`, `dq = scale · dS k`,
/// `dk = scale · dSᵀ q`; and Σ dP P = Σ dy y.
pub fn backward(
    dy: &Tensor,
    [q, k, v]: [&Tensor; 3],
    saved: &Saved,
    shape: Shape,
    sequences: &Sequences,
) -> Result<[Tensor; 3]> {
    if on_kernels(q) {
        return cpu::attention::backward(dy, &saved.output, [q, k, v], &saved.normalisers, shape, sequences);
    }
    #[cfg(feature = "cuda")]
    if cuda::takes([q, k, v, dy]) {
        return fused_backward(dy, [q, k, v], shape, sequences);
    }
    composed_backward(dy, [q, k, v], shape, sequences)
}

/// The first place that the query at `place` sees.
pub(super) fn first_seen(place: usize, window: Option<usize>) -> usize {
    window.map_or(0, |window| (place + 1).saturating_sub(window))
}

fn composed(q: &Tensor, k: &Tensor, v: &Tensor, shape: Shape, sequences: &Sequences) -> Result<Tensor> {
    let padded = Padded::new(sequences, q.device())?;
    let (heads, kv_heads) = (q.dim(1)?, k.dim(1)?);
    let (q, k, v) = (padded.queries(q, kv_heads)?, padded.keys(k)?, padded.keys(v)?);
    let p = padded.probabilities(&q, &k, heads, shape)?;
    padded.queries_back(&p.to_dtype(v.dtype())?.matmul(&v)?, heads)?.flatten_from(1)
}

fn composed_backward(dy: &Tensor, [q, k, v]: [&Tensor; 3], shape: Shape, sequences: &Sequences) -> Result<[Tensor; 3]> {
    let padded = Padded::new(sequences, q.device())?;
    let (heads, kv_heads, dtype) = (q.dim(1)?, k.dim(1)?, q.dtype());
    let dy = padded.queries(&dy.reshape(q.shape())?, kv_heads)?;
    let (q, k, v) = (padded.queries(q, kv_heads)?, padded.keys(k)?, padded.keys(v)?);
    let p = padded.probabilities(&q, &k, heads, shape)?;
    let dv = p.to_dtype(dtype)?.transpose(2, 3)?.contiguous()?.matmul(&dy)?;
    let dp = dy.matmul(&v.transpose(2, 3)?.contiguous()?)?.to_dtype(DType::F32)?;
    let weighted = (&dp * &p)?;
    let ds = ((&weighted - p.broadcast_mul(&weighted.sum_keepdim(D::Minus1)?)?)? * shape.scale)?.to_dtype(dtype)?;
    let dq = ds.matmul(&k)?;
    let dk = ds.transpose(2, 3)?.contiguous()?.matmul(&q)?;
    Ok([padded.queries_back(&dq, heads)?, padded.keys_back(&dk)?, padded.keys_back(&dv)?])
}

/// As [`composed`], with one kernel between the products, which keeps the scores in the type of the queries.
#[cfg(feature = "cuda")]
fn fused(q: &Tensor, k: &Tensor, v: &Tensor, shape: Shape, sequences: &Sequences) -> Result<Tensor> {
    let padded = Padded::new(sequences, q.device())?;
    let (heads, kv_heads) = (q.dim(1)?, k.dim(1)?);
    let (q, k, v) = (padded.queries(q, kv_heads)?, padded.keys(k)?, padded.keys(v)?);
    let p = padded.seen(heads, shape).probabilities(&q.matmul(&k.transpose(2, 3)?)?)?;
    padded.queries_back(&p.matmul(&v)?, heads)?.flatten_from(1)
}

/// As [`composed_backward`], likewise.
#[cfg(feature = "cuda")]
fn fused_backward(dy: &Tensor, [q, k, v]: [&Tensor; 3], shape: Shape, sequences: &Sequences) -> Result<[Tensor; 3]> {
    let padded = Padded::new(sequences, q.device())?;
    let (heads, kv_heads) = (q.dim(1)?, k.dim(1)?);
    let dy = padded.queries(&dy.reshape(q.shape())?, kv_heads)?;
    let (q, k, v) = (padded.queries(q, kv_heads)?, padded.keys(k)?, padded.keys(v)?);
    let (scores, dp) = (q.matmul(&k.transpose(2, 3)?)?, dy.matmul(&v.transpose(2, 3)?)?);
    let [p, ds] = padded.seen(heads, shape).backward(&scores, &dp)?;
    let dv = p.transpose(2, 3)?.matmul(&dy)?;
    let (dq, dk) = (ds.matmul(&k)?, ds.transpose(2, 3)?.matmul(&q)?);
    Ok([padded.queries_back(&dq, heads)?, padded.keys_back(&dk)?, padded.keys_back(&dv)?])
}

/// Sequences as rows of one length, as operations without kernels of our own want them.
struct Padded {
    rows: usize,
    /// Lengths of the rows of queries and of keys.
    queries: usize,
    keys: usize,
    /// For each place of a row: which query or key stands there; row 0 where none does.
    query_rows: Tensor,
    key_rows: Tensor,
    /// 1 where a query or key stands, [rows · length, 1].
    real_queries: Tensor,
    real_keys: Tensor,
    /// For each query and key: where it stands.
    of_queries: Tensor,
    of_keys: Tensor,
    /// [rows, queries, 1] and [rows, 1, keys].
    query_positions: Tensor,
    key_positions: Tensor,
}

impl Padded {
    /// A position behind all others: of a padded key, so that no query sees it.
    const BEHIND: f32 = 1e9;

    fn new(sequences: &Sequences, device: &Device) -> Result<Padded> {
        let spans = sequences.spans();
        let queries = spans.iter().map(|span| span.queries.len()).max().unwrap_or(0);
        let keys = |k: usize| spans[k].keys.iter().flat_map(Clone::clone);
        let longest = (0..spans.len()).map(|k| keys(k).count()).max().unwrap_or(0);
        let of_queries = Side::new(spans.len(), queries, sequences.query_positions(), |k| spans[k].queries.clone());
        let of_keys = Side::new(spans.len(), longest, sequences.positions(), keys);
        let vector = |values: &[u32]| Tensor::from_slice(values, values.len(), device);
        let column = |values: &[f32]| Tensor::from_slice(values, (values.len(), 1), device);
        Ok(Padded {
            rows: spans.len(),
            queries,
            keys: longest,
            query_rows: vector(&of_queries.rows)?,
            key_rows: vector(&of_keys.rows)?,
            real_queries: column(&of_queries.real)?,
            real_keys: column(&of_keys.real)?,
            of_queries: vector(&of_queries.places)?,
            of_keys: vector(&of_keys.places)?,
            query_positions: Tensor::from_slice(&of_queries.positions, (spans.len(), queries, 1), device)?,
            key_positions: Tensor::from_slice(&of_keys.positions, (spans.len(), 1, longest), device)?,
        })
    }

    /// [queries, heads, head_dim] → [rows, kv_heads, group · length, head_dim].
    fn queries(&self, x: &Tensor, kv_heads: usize) -> Result<Tensor> {
        let (_, heads, head_dim) = x.dims3()?;
        let x = laid_out(x, &self.query_rows, &self.real_queries)?;
        let x = x.reshape((self.rows, self.queries, heads, head_dim))?.transpose(1, 2)?.contiguous()?;
        x.reshape((self.rows, kv_heads, heads / kv_heads * self.queries, head_dim))
    }

    /// [places, kv_heads, head_dim] → [rows, kv_heads, length, head_dim].
    fn keys(&self, x: &Tensor) -> Result<Tensor> {
        let (_, heads, head_dim) = x.dims3()?;
        let x = laid_out(x, &self.key_rows, &self.real_keys)?;
        x.reshape((self.rows, self.keys, heads, head_dim))?.transpose(1, 2)?.contiguous()
    }

    /// Undoes [`queries`](Padded::queries).
    fn queries_back(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let head_dim = x.dim(D::Minus1)?;
        let x = x.reshape((self.rows, heads, self.queries, head_dim))?.transpose(1, 2)?.contiguous()?;
        x.reshape((self.rows * self.queries, heads, head_dim))?.index_select(&self.of_queries, 0)
    }

    /// Undoes [`keys`](Padded::keys).
    fn keys_back(&self, x: &Tensor) -> Result<Tensor> {
        let (_, heads, _, head_dim) = x.dims4()?;
        let x = x.transpose(1, 2)?.contiguous()?.reshape((self.rows * self.keys, heads, head_dim))?;
        x.index_select(&self.of_keys, 0)
    }

    /// [rows, kv_heads, group · length, keys], in f32.
    fn probabilities(&self, q: &Tensor, k: &Tensor, heads: usize, shape: Shape) -> Result<Tensor> {
        let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)?.to_dtype(DType::F32)? * shape.scale)?;
        let by_head = scores.reshape((self.rows, heads, self.queries, self.keys))?;
        let p = candle_nn::ops::softmax_last_dim(&by_head.broadcast_add(&self.mask(shape.window)?)?)?;
        p.reshape(scores.shape())
    }

    /// What the kernels read in the place of a mask.
    #[cfg(feature = "cuda")]
    fn seen(&self, heads: usize, shape: Shape) -> cuda::attention::Mask<'_> {
        let (query_positions, key_positions) = (&self.query_positions, &self.key_positions);
        cuda::attention::Mask { query_positions, key_positions, heads, shape }
    }

    /// [rows, 1, queries, keys]: 0 where the query sees the key, very low elsewhere. Not −∞, as the softmax of a padded
    /// row, of which nothing is read, would then be no number.
    fn mask(&self, window: Option<usize>) -> Result<Tensor> {
        let mut seen = self.key_positions.broadcast_le(&self.query_positions)?;
        if let Some(window) = window {
            let first = (&self.query_positions - window as f64)?;
            seen = (seen * self.key_positions.broadcast_gt(&first)?)?;
        }
        seen.to_dtype(DType::F32)?.affine(1e30, -1e30)?.unsqueeze(1)
    }
}

/// Queries or keys, as [`Padded`] lays them out.
struct Side {
    rows: Vec<u32>,
    real: Vec<f32>,
    positions: Vec<f32>,
    places: Vec<u32>,
}

impl Side {
    fn new<I: Iterator<Item = usize>>(
        count: usize,
        length: usize,
        positions: &[u32],
        of_row: impl Fn(usize) -> I,
    ) -> Side {
        let size = count * length;
        let mut side = Side {
            rows: vec![0; size],
            real: vec![0.0; size],
            positions: vec![Padded::BEHIND; size],
            places: vec![0; positions.len()],
        };
        for row in 0..count {
            for (k, item) in of_row(row).enumerate() {
                let place = row * length + k;
                side.rows[place] = item as u32;
                side.real[place] = 1.0;
                side.positions[place] = positions[item] as f32;
                side.places[item] = place as u32;
            }
        }
        side
    }
}

/// Items in rows, zeros where there is none.
fn laid_out(x: &Tensor, rows: &Tensor, real: &Tensor) -> Result<Tensor> {
    x.flatten_from(1)?.contiguous()?.index_select(rows, 0)?.broadcast_mul(&real.to_dtype(x.dtype())?)
}

#[cfg(test)]
mod tests {
    use super::super::sequences::Span;
    use super::super::tests::{close, random};
    use super::*;

    fn sequences() -> Sequences {
        let positions = (0..5).chain(0..9).chain(0..1).collect();
        Sequences::new(vec![Span::alone(0..5), Span::alone(5..14), Span::alone(14..15)], positions)
    }

    #[test]
    fn both_spellings_agree() {
        let (all, some) = (sequences(), sequences().at(&[1, 4, 6, 13, 14]));
        for (sequences, queries) in [(&all, 15), (&some, 5)] {
            for window in [None, Some(1), Some(3), Some(50)] {
                let shape = Shape { scale: 0.3, window };
                let q = random(&[queries, 4, 6], 1);
                let (k, v) = (random(&[15, 2, 6], 2), random(&[15, 2, 6], 3));
                let saved = forward(&q, &k, &v, shape, sequences).unwrap();
                close(&saved.output, &composed(&q, &k, &v, shape, sequences).unwrap());
                let dy = random(&[queries, 24], 4);
                let ours = backward(&dy, [&q, &k, &v], &saved, shape, sequences).unwrap();
                let theirs = composed_backward(&dy, [&q, &k, &v], shape, sequences).unwrap();
                ours.iter().zip(&theirs).for_each(|(ours, theirs)| close(ours, theirs));
            }
        }
    }

    /// With scores in bf16 what is summed over keys is off by more than one rounding.
    #[cfg(feature = "cuda")]
    #[test]
    fn both_spellings_agree_on_cuda() {
        use super::super::tests::on_cuda;
        on_cuda(|on| {
            let part = if on.dtype == DType::F32 { 1e-5 } else { 0.03 };
            let (all, some) = (sequences(), sequences().at(&[1, 4, 6, 13, 14]));
            for (sequences, queries) in [(&all, 15), (&some, 5)] {
                for window in [None, Some(1), Some(3), Some(50)] {
                    let shape = Shape { scale: 0.3, window };
                    let (q, wide_q) = on.random(&[queries, 4, 6], 1);
                    let ((k, wide_k), (v, wide_v)) = (on.random(&[15, 2, 6], 2), on.random(&[15, 2, 6], 3));
                    let saved = forward(&q, &k, &v, shape, sequences).unwrap();
                    on.within(&saved.output, &composed(&wide_q, &wide_k, &wide_v, shape, sequences).unwrap(), part);
                    let (dy, wide_dy) = on.random(&[queries, 24], 4);
                    let ours = backward(&dy, [&q, &k, &v], &saved, shape, sequences).unwrap();
                    let wide = [&wide_q, &wide_k, &wide_v];
                    let theirs = composed_backward(&wide_dy, wide, shape, sequences).unwrap();
                    ours.iter().zip(&theirs).for_each(|(ours, theirs)| on.within(ours, theirs, part));
                }
            }
        });
    }

    /// A completion that sees its prompt and itself gives what prompt and completion give as one sequence.
    #[test]
    fn branches_see_their_prompt() {
        let (q, k, v) = (random(&[8, 2, 4], 1), random(&[8, 1, 4], 2), random(&[8, 1, 4], 3));
        let branches = vec![Span::alone(0..4), Span::after(0..4, 4..6), Span::after(0..4, 6..8)];
        let branched = Sequences::new(branches, vec![0, 1, 2, 3, 4, 5, 4, 5]);
        for window in [None, Some(3)] {
            let shape = Shape { scale: 0.5, window };
            let got = forward(&q, &k, &v, shape, &branched).unwrap().output;
            close(&got, &composed(&q, &k, &v, shape, &branched).unwrap());
            let places = Tensor::new(&[0u32, 1, 2, 3, 6, 7], &Device::Cpu).unwrap();
            let [q, k, v] = [&q, &k, &v].map(|x| x.index_select(&places, 0).unwrap());
            let alone = Sequences::new(vec![Span::alone(0..6)], (0..6).collect());
            let expected = forward(&q, &k, &v, shape, &alone).unwrap().output;
            close(&got.narrow(0, 6, 2).unwrap(), &expected.narrow(0, 4, 2).unwrap());
        }
    }
}
