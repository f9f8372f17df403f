//! What stands between the products of attention: the masked softmax, and its way back.

use candle_core::{DType, Error, Result, Tensor};

use super::{Grid, has_kernels_for, run};
use crate::ops::attention::scoring::Scoring;

/// Which query sees which key, by where they stand.
pub(crate) struct Mask<'a> {
    /// [rows, queries, 1], f32.
    pub query_positions: &'a Tensor,
    /// [rows, 1, keys], f32.
    pub key_positions: &'a Tensor,
    /// Query heads.
    pub heads: usize,
    pub scoring: Scoring,
}

impl Mask<'_> {
    /// Probabilities from scores [rows, kv_heads, group · queries, keys] that are not scaled yet, in their type. A query
    /// that sees nothing gets zeros.
    pub(crate) fn probabilities(&self, scores: &Tensor) -> Result<Tensor> {
        let (grid, sizes) = self.sizes([scores])?;
        let (reads, like) = ([scores, self.query_positions, self.key_positions], (scores.shape(), scores.dtype()));
        // SAFETY: a block for each query of each head writes its row; the positions are as many as `sizes` saw.
        let [p] = unsafe { run("softmax_forward", grid, reads, [like], &sizes, &self.numbers()) }?;
        Ok(p)
    }

    /// The probabilities P again and, from their gradient dP, that of the scores: `scale · P (dP − Σ dP P)`.
    pub(crate) fn backward(&self, scores: &Tensor, dp: &Tensor) -> Result<[Tensor; 2]> {
        let (grid, sizes) = self.sizes([scores, dp])?;
        let reads = [scores, dp, self.query_positions, self.key_positions];
        let like = (scores.shape(), scores.dtype());
        // SAFETY: a block for each query of each head writes its rows; the positions are as many as `sizes` saw.
        unsafe { run("softmax_backward", grid, reads, [like, like], &sizes, &self.numbers()) }
    }

    /// Heads, queries and keys, and how to launch over them.
    fn sizes<const N: usize>(&self, scores: [&Tensor; N]) -> Result<(Grid, [usize; 3])> {
        let (rows, queries, _) = self.query_positions.dims3()?;
        let (key_rows, _, keys) = self.key_positions.dims3()?;
        let count = rows * self.heads * queries;
        let fits = |scores: &&Tensor| scores.elem_count() == count * keys && u32::try_from(keys).is_ok();
        let positions = [self.query_positions, self.key_positions].iter().all(|x| x.dtype() == DType::F32);
        if self.scoring.softcap.is_some() {
            return Err(Error::Msg("a cap on scores, which the kernels do not know".into()));
        }
        if self.scoring.window == Some(0) {
            return Err(Error::Msg("a window in which a query does not see itself".into()));
        }
        if !has_kernels_for(scores) || !scores.iter().all(fits) || key_rows != rows || !positions {
            return Err(Error::Msg("scores of other queries or keys than have positions".into()));
        }
        Ok((Grid::rows(count, keys), [self.heads, queries, keys]))
    }

    /// The kernels know no window as one of 0.
    fn numbers(&self) -> [f32; 2] {
        [self.scoring.scale as f32, self.scoring.window.map_or(0.0, |window| window as f32)]
    }
}
