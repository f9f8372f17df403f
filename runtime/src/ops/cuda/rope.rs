//! Rotary position embedding: a block of threads for each row.

use candle_core::{Error, Result, Tensor};

use super::{Grid, run};

/// Rotates pairs of dimensions of `x` [rows, heads, head_dim]: k with k + pairs, by the angle whose cosine and sine stand
/// in row `positions[row]` of the tables [.., pairs]. Dimensions from 2 · pairs on are kept. `back` undoes it.
pub(crate) fn rotate(x: &Tensor, [cos, sin]: [&Tensor; 2], positions: &[u32], back: bool) -> Result<Tensor> {
    let (rows, heads, head_dim) = x.dims3()?;
    let (known, pairs) = cos.dims2()?;
    let outside = positions.iter().any(|&position| position as usize >= known);
    if positions.len() != rows || 2 * pairs > head_dim || outside || sin.dims() != cos.dims() {
        return Err(Error::Msg("a position outside the table of a rotary embedding".into()));
    }
    if u32::try_from(heads * head_dim).is_err() {
        return Err(Error::Msg(format!("{heads} heads of {head_dim} are more than a kernel counts")));
    }
    let positions = Tensor::from_slice(positions, rows, x.device())?;
    let grid = Grid::rows(rows, heads * (head_dim - pairs));
    let (reads, sizes) = ([x, cos, sin, &positions], [heads, head_dim, pairs]);
    let sign = if back { -1.0 } else { 1.0 };
    // SAFETY: a block for each row writes all of its dimensions, and positions were checked against the tables.
    let [y] = unsafe { run("rotate", grid, reads, [(x.shape(), x.dtype())], &sizes, &[sign]) }?;
    Ok(y)
}
