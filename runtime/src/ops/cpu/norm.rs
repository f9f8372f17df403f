//! Norms over the rows of a matrix, forward and backward in one pass each.

use candle_core::{Result, Tensor};
use frostline_schemas::model::NormKind;
use rayon::prelude::*;

use super::{accumulate, add_up, sum2, vectorised, whole_rows, with_slices};
use crate::ops::{NeedsGrad, NormGradients};

/// Mean that is subtracted (0 but for LayerNorm), and what the rest is multiplied by.
#[inline(always)]
fn statistics(x: &[f32], kind: NormKind, epsilon: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = if kind == NormKind::Layer { sum2(x, x, |x, _| x) / n } else { 0.0 };
    let square = sum2(x, x, |x, _| (x - mean) * (x - mean)) / n;
    (mean, (square + epsilon).sqrt().recip())
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
    let zeros = gain.zeros_like()?;
    let mut out = vec![0.0; x.elem_count()];
    with_slices([x, gain, bias.unwrap_or(&zeros)], |[x, gain, bias]| {
        let size = whole_rows(width);
        out.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(out, x)| {
            vectorised(|| {
                for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let (mean, r) = statistics(x, kind, epsilon);
                    for (((out, x), gain), bias) in out.iter_mut().zip(x).zip(gain).zip(bias) {
                        *out = (x - mean) * r * gain + bias;
                    }
                }
            });
        });
    })?;
    Tensor::from_vec(out, x.shape(), x.device())
}

/// NormGradients of [`forward`]; the weight's is the gain's.
pub(crate) fn backward(
    dy: &Tensor,
    x: &Tensor,
    kind: NormKind,
    epsilon: f32,
    gain: &Tensor,
    needs_grad: NeedsGrad,
) -> Result<NormGradients> {
    let width = gain.elem_count();
    let size = whole_rows(width);
    let mut dx = vec![0.0; if needs_grad.input { x.elem_count() } else { 0 }];
    let (dw, db) = with_slices([dy, x, gain], |[dy, x, gain]| {
        let chunk = |dy: &[f32], x: &[f32], dx: &mut [f32]| {
            let mut sums = (vec![0.0; width], vec![0.0; width]);
            vectorised(|| {
                for (k, (dy, x)) in dy.chunks_exact(width).zip(x.chunks_exact(width)).enumerate() {
                    let (mean, r) = statistics(x, kind, epsilon);
                    if needs_grad.weight {
                        for ((sum, dy), x) in sums.0.iter_mut().zip(dy).zip(x) {
                            *sum += dy * (x - mean) * r;
                        }
                    }
                    if needs_grad.bias {
                        accumulate(&mut sums.1, dy);
                    }
                    if needs_grad.input {
                        let dx = &mut dx[k * width..(k + 1) * width];
                        norm_row_backward(dy, x, gain, kind, (mean, r), dx);
                    }
                }
            });
            sums
        };
        let sources = dy.par_chunks(size).zip(x.par_chunks(size));
        let parts: Vec<(Vec<f32>, Vec<f32>)> = if needs_grad.input {
            sources.zip(dx.par_chunks_mut(size)).map(|((dy, x), dx)| chunk(dy, x, dx)).collect()
        } else {
            sources.map(|(dy, x)| chunk(dy, x, &mut [])).collect()
        };
        let (dw, db): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        (add_up(dw, width), add_up(db, width))
    })?;
    let vector = |values: Vec<f32>| Tensor::from_vec(values, width, x.device());
    Ok(NormGradients {
        input: needs_grad.input.then(|| Tensor::from_vec(dx, x.shape(), x.device())).transpose()?,
        weight: needs_grad.weight.then(|| vector(dw)).transpose()?,
        bias: needs_grad.bias.then(|| vector(db)).transpose()?,
    })
}

#[inline(always)]
fn norm_row_backward(dy: &[f32], x: &[f32], gain: &[f32], kind: NormKind, (mean, r): (f32, f32), dx: &mut [f32]) {
    let n = x.len() as f32;
    for ((dx, dy), gain) in dx.iter_mut().zip(dy).zip(gain) {
        *dx = dy * gain;
    }
    let along = sum2(dx, x, |g, x| g * (x - mean) * r) / n;
    let level = if kind == NormKind::Layer { sum2(dx, dx, |g, _| g) / n } else { 0.0 };
    for (dx, x) in dx.iter_mut().zip(x) {
        *dx = r * (*dx - level - (x - mean) * r * along);
    }
}
