//! Norms over the rows of a matrix: a block of threads for each row.

use candle_core::{D, DType, Result, Shape, Tensor};
use frostline_schemas::model::NormKind;

use super::{Grid, has_kernels_for, run};
use crate::ops::{NeedsGrad, NormGradients};

/// Rows whose gradients one thread adds up at least.
const CHUNK: usize = 32;
/// Chunks at most, all of which one thread adds up in the end.
const MOST_CHUNKS: usize = 256;

/// Whether the kernels compute this norm: the vectors must be f32 [width], rows of `x` as wide.
pub(crate) fn fits(x: &Tensor, gain: &Tensor, bias: Option<&Tensor>) -> bool {
    let width = x.dim(D::Minus1).ok();
    let vector = |v: &Tensor| has_kernels_for([v]) && v.dtype() == DType::F32 && v.dims1().ok() == width;
    has_kernels_for([x]) && vector(gain) && bias.is_none_or(vector)
}

/// Norm over the last dimension of `x` [.., width]; `gain` [width] has the one of an offset added already.
pub(crate) fn forward(
    x: &Tensor,
    kind: NormKind,
    epsilon: f32,
    gain: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let width = gain.elem_count();
    let grid = Grid::rows(x.elem_count() / width, width);
    let reads = [x, gain, bias.unwrap_or(gain)];
    let sizes = [width, centred(kind), usize::from(bias.is_some())];
    // SAFETY: a block for each row writes all of it; gain and bias are as wide as a row.
    let [y] = unsafe { run("norm_forward", grid, reads, [(x.shape(), x.dtype())], &sizes, &[epsilon]) }?;
    Ok(y)
}

/// NormGradients of [`forward`]; the weight's is the gain's. `dy` has the shape and type of `x`.
pub(crate) fn backward(
    dy: &Tensor,
    x: &Tensor,
    kind: NormKind,
    epsilon: f32,
    gain: &Tensor,
    needs_grad: NeedsGrad,
) -> Result<NormGradients> {
    let width = gain.elem_count();
    let mut gradients = NormGradients::default();
    if needs_grad.input {
        let grid = Grid::rows(x.elem_count() / width, width);
        let sizes = [width, centred(kind)];
        // SAFETY: a block for each row writes all of it; dy has as many rows, gain is as wide as one.
        let [dx] = unsafe { run("norm_backward", grid, [dy, x, gain], [(dy.shape(), x.dtype())], &sizes, &[epsilon]) }?;
        gradients.input = Some(dx);
    }
    if needs_grad.weight || needs_grad.bias {
        let sums = column_sums(dy, x, width, kind, epsilon)?;
        let row = |k: usize| sums.narrow(0, k, 1)?.squeeze(0);
        gradients.weight = needs_grad.weight.then(|| row(0)).transpose()?;
        gradients.bias = needs_grad.bias.then(|| row(1)).transpose()?;
    }
    Ok(gradients)
}

/// [2, width]: Σ dy x̂ and Σ dy over rows, first over chunks of them and then over the chunks.
fn column_sums(dy: &Tensor, x: &Tensor, width: usize, kind: NormKind, epsilon: f32) -> Result<Tensor> {
    let rows = x.elem_count() / width;
    let found = Shape::from((rows, 2));
    let grid = Grid::rows(rows, width);
    let sizes = [width, centred(kind)];
    // SAFETY: a block for each row writes its two numbers.
    let [found] = unsafe { run("norm_statistics", grid, [x], [(&found, DType::F32)], &sizes, &[epsilon]) }?;

    let chunk = rows.div_ceil(MOST_CHUNKS).max(CHUNK);
    let chunks = rows.div_ceil(chunk);
    let parts = Shape::from((chunks, 2 * width));
    let (grid, sizes) = (Grid::columns(width, chunks), [rows, width, chunk]);
    // SAFETY: a thread for each column of each chunk writes its two sums, and reads no row behind the last.
    let [parts] = unsafe { run("norm_column_sums", grid, [dy, x, &found], [(&parts, DType::F32)], &sizes, &[]) }?;

    let sums = Shape::from((2, width));
    let (grid, sizes) = (Grid::columns(2 * width, 1), [chunks, 2 * width]);
    // SAFETY: a thread for each column writes its sum.
    let [sums] = unsafe { run("sum_rows", grid, [&parts], [(&sums, DType::F32)], &sizes, &[]) }?;
    Ok(sums)
}

fn centred(kind: NormKind) -> usize {
    usize::from(kind == NormKind::Layer)
}
