//! Rotary position embedding.

use candle_core::{Error, Result, Tensor};
use rayon::prelude::*;

use super::{vectorised, with_slices};

/// Rows that one task rotates at least.
const ROWS: usize = 8;

/// Rotates pairs of dimensions of `x` [rows, heads, head_dim]: k with k + pairs, by the angle whose cosine and sine stand
/// in row `positions[row]` of the tables [.., pairs]. Dimensions from 2 · pairs on are kept. `back` undoes it.
pub(crate) fn rotate(x: &Tensor, [cos, sin]: [&Tensor; 2], positions: &[u32], back: bool) -> Result<Tensor> {
    let (rows, heads, head_dim) = x.dims3()?;
    let (known, pairs) = cos.dims2()?;
    if positions.len() != rows || 2 * pairs > head_dim || positions.iter().any(|&position| position as usize >= known) {
        return Err(Error::Msg("a position outside the table of a rotary embedding".into()));
    }
    let sign = if back { -1.0 } else { 1.0 };
    let mut out = vec![0.0; x.elem_count()];
    let width = (heads * head_dim).max(1);
    with_slices([x, cos, sin], |[x, cos, sin]| {
        let both = out.par_chunks_exact_mut(width).zip(x.par_chunks_exact(width));
        both.zip(positions).with_min_len(ROWS).for_each(|((out, x), &position)| {
            let range = position as usize * pairs..(position as usize + 1) * pairs;
            let (cos, sin) = (&cos[range.clone()], &sin[range]);
            vectorised(|| {
                for (out, x) in out.chunks_exact_mut(head_dim).zip(x.chunks_exact(head_dim)) {
                    rotate_head(out, x, cos, sin, sign);
                }
            });
        });
    })?;
    Tensor::from_vec(out, x.shape(), x.device())
}

#[inline(always)]
fn rotate_head(out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], sign: f32) {
    let pairs = cos.len();
    out[2 * pairs..].copy_from_slice(&x[2 * pairs..]);
    let (low, high) = (&x[..pairs], &x[pairs..2 * pairs]);
    let (out_low, out_high) = out[..2 * pairs].split_at_mut(pairs);
    for k in 0..pairs {
        let sin = sign * sin[k];
        out_low[k] = low[k] * cos[k] - high[k] * sin;
        out_high[k] = high[k] * cos[k] + low[k] * sin;
    }
}
