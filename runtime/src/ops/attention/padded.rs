//! Ragged sequences laid out as rows of one length, for operations that have no kernels of our own.

use candle_core::{D, DType, Device, Result, Tensor};

use super::scoring::Scoring;
use crate::ops::sequences::Sequences;

/// Sequences as rows of one length, for operations without kernels of our own.
pub(super) struct Padded {
    rows: usize,
    /// Lengths of the rows of queries and of keys.
    queries: usize,
    keys: usize,
    /// For each slot of a row: which query or key stands there; row 0 where none does.
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

    pub(super) fn new(sequences: &Sequences, device: &Device) -> Result<Padded> {
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
            of_queries: vector(&of_queries.slots)?,
            of_keys: vector(&of_keys.slots)?,
            query_positions: Tensor::from_slice(&of_queries.positions, (spans.len(), queries, 1), device)?,
            key_positions: Tensor::from_slice(&of_keys.positions, (spans.len(), 1, longest), device)?,
        })
    }

    /// [queries, heads, head_dim] → [rows, kv_heads, group · length, head_dim].
    pub(super) fn queries(&self, x: &Tensor, kv_heads: usize) -> Result<Tensor> {
        let (_, heads, head_dim) = x.dims3()?;
        let x = laid_out(x, &self.query_rows, &self.real_queries)?;
        let x = x.reshape((self.rows, self.queries, heads, head_dim))?.transpose(1, 2)?.contiguous()?;
        x.reshape((self.rows, kv_heads, heads / kv_heads * self.queries, head_dim))
    }

    /// [tokens, kv_heads, head_dim] → [rows, kv_heads, length, head_dim].
    pub(super) fn keys(&self, x: &Tensor) -> Result<Tensor> {
        let (_, heads, head_dim) = x.dims3()?;
        let x = laid_out(x, &self.key_rows, &self.real_keys)?;
        x.reshape((self.rows, self.keys, heads, head_dim))?.transpose(1, 2)?.contiguous()
    }

    /// Undoes [`queries`](Padded::queries).
    pub(super) fn queries_back(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let head_dim = x.dim(D::Minus1)?;
        let x = x.reshape((self.rows, heads, self.queries, head_dim))?.transpose(1, 2)?.contiguous()?;
        x.reshape((self.rows * self.queries, heads, head_dim))?.index_select(&self.of_queries, 0)
    }

    /// Undoes [`keys`](Padded::keys).
    pub(super) fn keys_back(&self, x: &Tensor) -> Result<Tensor> {
        let (_, heads, _, head_dim) = x.dims4()?;
        let x = x.transpose(1, 2)?.contiguous()?.reshape((self.rows * self.keys, heads, head_dim))?;
        x.index_select(&self.of_keys, 0)
    }

    /// Scaled and capped, before the mask: [rows, kv_heads, group · length, keys], in f32.
    fn scores(&self, q: &Tensor, k: &Tensor, scoring: Scoring) -> Result<Tensor> {
        let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)?.to_dtype(DType::F32)? * scoring.scale)?;
        match scoring.softcap {
            Some(cap) => (scores / cap)?.tanh()? * cap,
            None => Ok(scores),
        }
    }

    /// The gradient of scores before their cap, where there is one, from that after it: times 1 − (score / cap)².
    pub(super) fn through_cap(&self, ds: Tensor, q: &Tensor, k: &Tensor, scoring: Scoring) -> Result<Tensor> {
        let Some(cap) = scoring.softcap else { return Ok(ds) };
        ds * (self.scores(q, k, scoring)? / cap)?.sqr()?.affine(-1.0, 1.0)?
    }

    /// [rows, kv_heads, group · length, keys], in f32.
    pub(super) fn probabilities(&self, q: &Tensor, k: &Tensor, heads: usize, scoring: Scoring) -> Result<Tensor> {
        let scores = self.scores(q, k, scoring)?;
        let by_head = scores.reshape((self.rows, heads, self.queries, self.keys))?;
        let p = candle_nn::ops::softmax_last_dim(&by_head.broadcast_add(&self.mask(scoring.window)?)?)?;
        p.reshape(scores.shape())
    }

    /// What the kernels read instead of a mask.
    #[cfg(feature = "cuda")]
    pub(super) fn seen(&self, heads: usize, scoring: Scoring) -> crate::ops::cuda::attention::Mask<'_> {
        let (query_positions, key_positions) = (&self.query_positions, &self.key_positions);
        crate::ops::cuda::attention::Mask { query_positions, key_positions, heads, scoring }
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
    slots: Vec<u32>,
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
            slots: vec![0; positions.len()],
        };
        for row in 0..count {
            for (k, item) in of_row(row).enumerate() {
                let slot = row * length + k;
                side.rows[slot] = item as u32;
                side.real[slot] = 1.0;
                side.positions[slot] = positions[item] as f32;
                side.slots[item] = slot as u32;
            }
        }
        side
    }
}

/// Items in rows, zeros where there is none.
fn laid_out(x: &Tensor, rows: &Tensor, real: &Tensor) -> Result<Tensor> {
    x.flatten_from(1)?.contiguous()?.index_select(rows, 0)?.broadcast_mul(&real.to_dtype(x.dtype())?)
}
