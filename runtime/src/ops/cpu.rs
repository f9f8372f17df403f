//! One-pass kernels over f32 slices, threads over rows, vectorised by the compiler.
//!
//! Each function here is the CPU half of the operation whose name it bears; the formulas stand there. Sums over rows
//! are taken chunk by chunk in a fixed order, so that the number of threads changes no bit of a result.

use std::cell::Cell;

use candle_core::{CpuStorage, Error, InplaceOp1, Layout, Result, Storage, Tensor};
use frostline_schemas::decoder::{Activation, NormKind};
use rayon::prelude::*;

use super::attention::first_seen;
use super::{Gradients, Wanted};

/// Elements that one task works on: enough to pay for handing it over, few enough to stay in the first-level cache.
const CHUNK: usize = 8192;

/// Lends the contiguous f32 elements of CPU tensors.
pub fn with_slices<const N: usize, R>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let contiguous = tensors.iter().map(|tensor| tensor.contiguous()).collect::<Result<Vec<_>>>()?;
    let guards: Vec<_> = contiguous.iter().map(Tensor::storage_and_layout).collect();
    let slices = guards.iter().map(|(storage, layout)| slice(storage, layout)).collect::<Result<Vec<&[f32]>>>()?;
    let slices = <[&[f32]; N]>::try_from(slices).map_err(|_| Error::Msg("as many slices as tensors".into()))?;
    Ok(f(slices))
}

fn slice<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => Ok(&values[start..end]),
        _ => Err(Error::Msg(format!("expected contiguous f32 on the cpu, got {:?}", storage.dtype()))),
    }
}

/// Changes a CPU tensor that nobody else holds; returns what `f` does.
pub fn in_place<R>(tensor: &Tensor, f: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
    let operation = InPlace { work: Cell::new(Some(f)), result: Cell::new(None) };
    tensor.inplace_op1(&operation)?;
    operation.result.take().ok_or_else(|| Error::Msg("an operation in place was not run".into()))
}

/// Work that is done once, through the shared reference that candle gives.
struct InPlace<F, R> {
    work: Cell<Option<F>>,
    result: Cell<Option<R>>,
}

impl<F: FnOnce(&mut [f32]) -> R, R> InplaceOp1 for InPlace<F, R> {
    fn name(&self) -> &'static str {
        "in-place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match (storage, layout.contiguous_offsets()) {
            (CpuStorage::F32(values), Some((start, end))) => {
                let work = self.work.take().ok_or_else(|| Error::Msg("an operation in place was run twice".into()))?;
                self.result.set(Some(work(&mut values[start..end])));
                Ok(())
            }
            _ => Err(Error::Msg("expected contiguous f32".into())),
        }
    }
}

/// Runs `f` compiled for the widest vectors that this processor has.
#[inline(always)]
pub fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// Elements in whole rows of `width` that make about one [`CHUNK`].
fn whole_rows(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1) * width.max(1)
}

/// A tensor shaped like `like`, filled chunk by chunk from slices of the same length.
fn map<const N: usize>(
    like: &Tensor,
    from: [&Tensor; N],
    f: impl Fn([&[f32]; N], &mut [f32]) + Sync,
) -> Result<Tensor> {
    let mut out = vec![0.0; like.elem_count()];
    with_slices(from, |slices| {
        out.par_chunks_mut(CHUNK).enumerate().for_each(|(k, out)| {
            let range = k * CHUNK..k * CHUNK + out.len();
            let slices = slices.map(|slice| &slice[range.clone()]);
            vectorised(|| f(slices, out));
        });
    })?;
    Tensor::from_vec(out, like.shape(), like.device())
}

/// The residual's sum.
pub fn add(x: &Tensor, z: &Tensor) -> Result<Tensor> {
    map(x, [x, z], |[x, z], out| {
        for ((out, x), z) in out.iter_mut().zip(x).zip(z) {
            *out = x + z;
        }
    })
}

/// Adds `bias` [width] to each row of `y` [rows, width], which nobody else holds.
pub fn add_bias(y: &Tensor, bias: &Tensor) -> Result<()> {
    with_slices([bias], |[bias]| {
        in_place(y, |y| {
            y.par_chunks_mut(whole_rows(bias.len())).for_each(|rows| {
                for row in rows.chunks_exact_mut(bias.len()) {
                    row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                }
            });
        })
    })?
}

/// Sum of the rows of `x` [rows, width].
pub fn sum_rows(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(candle_core::D::Minus1)?;
    let sums = with_slices([x], |[x]| {
        let parts: Vec<Vec<f32>> = x
            .par_chunks(whole_rows(width))
            .map(|rows| {
                let mut sums = vec![0.0; width];
                rows.chunks_exact(width).for_each(|row| accumulate(&mut sums, row));
                sums
            })
            .collect();
        add_up(parts, width)
    })?;
    Tensor::from_vec(sums, width, x.device())
}

fn accumulate(sums: &mut [f32], row: &[f32]) {
    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
}

fn add_up(parts: Vec<Vec<f32>>, width: usize) -> Vec<f32> {
    let mut sums = vec![0.0; width];
    parts.iter().for_each(|part| accumulate(&mut sums, part));
    sums
}

/// Sum of `f` over pairs of elements, in 16 lanes.
#[inline(always)]
fn sum2(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0; LANES];
    let (x, y) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest: f32 = x.remainder().iter().zip(y.remainder()).map(|(&x, &y)| f(x, y)).sum();
    for (x, y) in x.zip(y) {
        for (lane, (&x, &y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += f(x, y);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Sum of the squares of all elements, in f64, chunk by chunk in a fixed order.
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    const LANES: usize = 16;
    let chunk = |chunk: &[f32]| {
        vectorised(|| {
            let mut lanes = [0.0; LANES];
            for part in chunk.chunks(LANES) {
                for (lane, &x) in lanes.iter_mut().zip(part) {
                    *lane += f64::from(x) * f64::from(x);
                }
            }
            lanes.iter().sum::<f64>()
        })
    };
    with_slices([x], |[x]| {
        let sums: Vec<f64> = x.par_chunks(CHUNK).map(chunk).collect();
        sums.iter().sum()
    })
}

/// Whether no element is infinite or not a number.
pub fn is_finite(x: &Tensor) -> Result<bool> {
    with_slices([x], |[x]| x.par_chunks(CHUNK).all(|chunk| chunk.iter().all(|x| x.is_finite())))
}

/// Mean that is subtracted (0 but for LayerNorm), and what the rest is multiplied by.
#[inline(always)]
fn statistics(x: &[f32], kind: NormKind, epsilon: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = if kind == NormKind::Layer { sum2(x, x, |x, _| x) / n } else { 0.0 };
    let square = sum2(x, x, |x, _| (x - mean) * (x - mean)) / n;
    (mean, (square + epsilon).sqrt().recip())
}

/// Norm over the last dimension of `x` [.., width]; `gain` [width] has the one of an offset added already.
pub fn norm(x: &Tensor, kind: NormKind, epsilon: f32, gain: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
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

/// Gradients of [`norm`]; the weight's is the gain's.
pub fn norm_backward(
    dy: &Tensor,
    x: &Tensor,
    kind: NormKind,
    epsilon: f32,
    gain: &Tensor,
    wanted: Wanted,
) -> Result<Gradients> {
    let width = gain.elem_count();
    let size = whole_rows(width);
    let mut dx = vec![0.0; if wanted.input { x.elem_count() } else { 0 }];
    let (dw, db) = with_slices([dy, x, gain], |[dy, x, gain]| {
        let chunk = |dy: &[f32], x: &[f32], dx: &mut [f32]| {
            let mut sums = (vec![0.0; width], vec![0.0; width]);
            vectorised(|| {
                for (k, (dy, x)) in dy.chunks_exact(width).zip(x.chunks_exact(width)).enumerate() {
                    let (mean, r) = statistics(x, kind, epsilon);
                    if wanted.weight {
                        for ((sum, dy), x) in sums.0.iter_mut().zip(dy).zip(x) {
                            *sum += dy * (x - mean) * r;
                        }
                    }
                    if wanted.bias {
                        accumulate(&mut sums.1, dy);
                    }
                    if wanted.input {
                        let dx = &mut dx[k * width..(k + 1) * width];
                        norm_row_backward(dy, x, gain, kind, (mean, r), dx);
                    }
                }
            });
            sums
        };
        let sources = dy.par_chunks(size).zip(x.par_chunks(size));
        let parts: Vec<(Vec<f32>, Vec<f32>)> = if wanted.input {
            sources.zip(dx.par_chunks_mut(size)).map(|((dy, x), dx)| chunk(dy, x, dx)).collect()
        } else {
            sources.map(|(dy, x)| chunk(dy, x, &mut [])).collect()
        };
        let (dw, db): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        (add_up(dw, width), add_up(db, width))
    })?;
    let vector = |values: Vec<f32>| Tensor::from_vec(values, width, x.device());
    Ok(Gradients {
        input: wanted.input.then(|| Tensor::from_vec(dx, x.shape(), x.device())).transpose()?,
        weight: wanted.weight.then(|| vector(dw)).transpose()?,
        bias: wanted.bias.then(|| vector(db)).transpose()?,
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

/// Softmax over what each query sees, in place; what it does not see becomes 0.
pub fn causal_softmax(scores: Tensor, sequence: usize, window: Option<usize>) -> Result<Tensor> {
    in_place(&scores, |scores| {
        let size = whole_rows(sequence);
        scores.par_chunks_mut(size).enumerate().for_each(|(k, rows)| {
            vectorised(|| {
                for (row, scores) in rows.chunks_exact_mut(sequence).enumerate() {
                    let query = (k * size / sequence + row) % sequence;
                    let first = first_seen(query, window);
                    scores[..first].fill(0.0);
                    scores[query + 1..].fill(0.0);
                    softmax(&mut scores[first..=query], 1.0);
                }
            });
        });
    })?;
    Ok(scores)
}

/// `scale · softmax`, in place; returns ln Σ exp.
#[inline(always)]
fn softmax(row: &mut [f32], scale: f32) -> f32 {
    let max = maximum(row);
    for x in row.iter_mut() {
        *x = exp(*x - max);
    }
    let total = sum2(row, row, |x, _| x);
    let factor = scale / total;
    row.iter_mut().for_each(|x| *x *= factor);
    max + total.ln()
}

#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let chunks = row.chunks_exact(16);
    let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    lanes.into_iter().fold(rest, f32::max)
}

/// `p (dp − Σ dp p)` over the last dimension.
pub fn softmax_backward(dp: &Tensor, p: &Tensor) -> Result<Tensor> {
    let width = p.dim(candle_core::D::Minus1)?;
    let size = whole_rows(width);
    let mut ds = vec![0.0; p.elem_count()];
    with_slices([dp, p], |[dp, p]| {
        ds.par_chunks_mut(size).zip(dp.par_chunks(size)).zip(p.par_chunks(size)).for_each(|((ds, dp), p)| {
            vectorised(|| {
                for ((ds, dp), p) in ds.chunks_exact_mut(width).zip(dp.chunks_exact(width)).zip(p.chunks_exact(width)) {
                    let sum = sum2(dp, p, |dp, p| dp * p);
                    for ((ds, dp), p) in ds.iter_mut().zip(dp).zip(p) {
                        *ds = p * (dp - sum);
                    }
                }
            });
        });
    })?;
    Tensor::from_vec(ds, p.shape(), p.device())
}

/// Losses, and the gradient of logits [targets, vocabulary], computed in their place.
pub fn softmax_minus_onehot(logits: Tensor, targets: &[u32], scale: f32) -> Result<(Vec<f32>, Tensor)> {
    let width = logits.dim(1)?;
    check_targets(targets, width)?;
    let losses = in_place(&logits, |logits| {
        logits
            .par_chunks_mut(width)
            .zip(targets)
            .map(|(row, &target)| {
                let logit = row[target as usize];
                let total = vectorised(|| softmax(row, scale));
                row[target as usize] -= scale;
                total - logit
            })
            .collect()
    })?;
    Ok((losses, logits))
}

/// −ln softmax(logits)[target] for logits [targets, vocabulary].
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Vec<f32>> {
    let width = logits.dim(1)?;
    check_targets(targets, width)?;
    with_slices([logits], |[logits]| {
        let rows = logits.par_chunks(width).zip(targets);
        rows.map(|(row, &target)| {
            vectorised(|| {
                let max = maximum(row);
                max + sum2(row, row, |x, _| exp(x - max)).ln() - row[target as usize]
            })
        })
        .collect()
    })
}

fn check_targets(targets: &[u32], vocabulary: usize) -> Result<()> {
    match targets.iter().find(|&&target| target as usize >= vocabulary) {
        Some(target) => Err(Error::Msg(format!("target token {target} is outside the vocabulary of {vocabulary}"))),
        None => Ok(()),
    }
}

/// Calls `$body` with `$f` bound to the activation's value and derivative, `x → (f(x), f′(x))`.
macro_rules! with_activation {
    ($kind:expr, $f:ident => $body:expr) => {
        match $kind {
            Activation::Silu => {
                let $f = silu;
                $body
            }
            Activation::GeluTanh => {
                let $f = gelu_tanh;
                $body
            }
            Activation::Gelu => {
                let $f = gelu;
                $body
            }
            Activation::Relu => {
                let $f = relu;
                $body
            }
        }
    };
}

/// `f(x)`, elementwise.
pub fn activation(x: &Tensor, kind: Activation) -> Result<Tensor> {
    with_activation!(kind, f => map(x, [x], |[x], out| {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = f(x).0;
        }
    }))
}

/// `dy · f′(x)`, elementwise.
pub fn activation_backward(dy: &Tensor, x: &Tensor, kind: Activation) -> Result<Tensor> {
    with_activation!(kind, f => map(x, [dy, x], |[dy, x], out| {
        for ((out, dy), &x) in out.iter_mut().zip(dy).zip(x) {
            *out = dy * f(x).1;
        }
    }))
}

/// `f(gate) · up`, elementwise.
pub fn gated(gate: &Tensor, up: &Tensor, kind: Activation) -> Result<Tensor> {
    with_activation!(kind, f => map(gate, [gate, up], |[gate, up], out| {
        for ((out, &gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = f(gate).0 * up;
        }
    }))
}

/// `(dy · up · f′(gate), dy · f(gate))`, elementwise.
pub fn gated_backward(dy: &Tensor, gate: &Tensor, up: &Tensor, kind: Activation) -> Result<(Tensor, Tensor)> {
    let mut dgate = vec![0.0; gate.elem_count()];
    let mut dup = vec![0.0; up.elem_count()];
    with_slices([dy, gate, up], |[dy, gate, up]| {
        let outputs = dgate.par_chunks_mut(CHUNK).zip(dup.par_chunks_mut(CHUNK));
        let inputs = dy.par_chunks(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK));
        with_activation!(kind, f => outputs.zip(inputs).for_each(|((dgate, dup), ((dy, gate), up))| {
            vectorised(|| {
                for ((((dgate, dup), dy), &gate), up) in dgate.iter_mut().zip(dup).zip(dy).zip(gate).zip(up) {
                    let (value, slope) = f(gate);
                    *dgate = dy * up * slope;
                    *dup = dy * value;
                }
            });
        }));
    })?;
    let tensor = |values: Vec<f32>| Tensor::from_vec(values, gate.shape(), gate.device());
    Ok((tensor(dgate)?, tensor(dup)?))
}

#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + exp(-x));
    (x * s, s * (1.0 + x * (1.0 - s)))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    const A: f32 = 0.797_884_6;
    const B: f32 = A * 0.044_715;
    let square = x * x;
    // ½ (1 + tanh u) = σ(2u)
    let s = 1.0 / (1.0 + exp(-2.0 * x * (A + B * square)));
    (x * s, s + 2.0 * x * s * (1.0 - s) * (A + 3.0 * B * square))
}

#[inline(always)]
fn gelu(x: f32) -> (f32, f32) {
    const DENSITY_AT_0: f32 = 0.398_942_3;
    let below = 0.5 * (1.0 + candle_core::cpu::erf::erf_f64(f64::from(x) * std::f64::consts::FRAC_1_SQRT_2) as f32);
    (x * below, below + x * DENSITY_AT_0 * exp(-0.5 * x * x))
}

#[inline(always)]
fn relu(x: f32) -> (f32, f32) {
    if x > 0.0 { (x, 1.0) } else { (0.0, 0.0) }
}

/// e^x to within 2 units in the last place, without branches so that loops over it vectorise (the polynomial is that of
/// Cephes' `expf`). Below −87 the result is as for −87 (1e-38), above 88 as for 88; NaN stays NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5 · 2²³: adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x < -87.0 { -87.0 } else { x };
    let clamped = if clamped > 88.0 { 88.0 } else { clamped };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
        p = p * r + coefficient;
    }
    let p = p * r * r + r + 1.0;
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for k in -8600..8800 {
            let x = k as f32 / 100.0 + 0.003;
            let (ours, theirs) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours / theirs - 1.0).abs() < 3e-7, "{x}: {ours} {theirs}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(0.0), 1.0);
    }
}
