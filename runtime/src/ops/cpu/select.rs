//! Rows of a matrix, by index.

use candle_core::{Error, Result, Tensor};

use super::{accumulate, in_place, with_slices};

/// The rows of `x` [rows, ..] that `indices` name.
pub(crate) fn gather(x: &Tensor, indices: &[u32]) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let (rows, width) = sizes(&shape)?;
    shape[0] = indices.len();
    let mut out = vec![0.0; indices.len() * width];
    with_slices([x], |[x]| {
        for (&index, out) in indices.iter().zip(out.chunks_exact_mut(width)) {
            out.copy_from_slice(&x[row(index, rows, width)?]);
        }
        Ok::<(), Error>(())
    })??;
    Tensor::from_vec(out, shape, x.device())
}

/// Adds the rows of `x` to those of `sum` that `indices` name; nobody else holds `sum`.
pub(crate) fn scatter_to(sum: &Tensor, x: &Tensor, indices: &[u32]) -> Result<()> {
    let (rows, width) = sizes(sum.dims())?;
    with_slices([x], |[x]| {
        in_place(sum, |sum| {
            for (&index, x) in indices.iter().zip(x.chunks_exact(width)) {
                accumulate(&mut sum[row(index, rows, width)?], x);
            }
            Ok(())
        })
    })??
}

/// Rows, and elements of a row.
fn sizes(shape: &[usize]) -> Result<(usize, usize)> {
    match shape {
        [rows, rest @ ..] => Ok((*rows, rest.iter().product::<usize>().max(1))),
        [] => Err(Error::Msg("a number has no rows".into())),
    }
}

fn row(index: u32, rows: usize, width: usize) -> Result<std::ops::Range<usize>> {
    let index = index as usize;
    if index < rows {
        Ok(index * width..(index + 1) * width)
    } else {
        Err(Error::Msg(format!("row {index} of {rows}")))
    }
}
