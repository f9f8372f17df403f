//! One-pass kernels over f32 slices, threads over rows, vectorised by the compiler; and matrix products.
//!
//! Each function here is the CPU half of the operation whose name it bears; the formulas stand there. Sums over rows
//! are taken chunk by chunk in a fixed order, so that the number of threads changes no bit of a result.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod loss;
pub(crate) mod norm;
pub(crate) mod product;
pub(crate) mod rope;
pub(crate) mod select;

use std::cell::Cell;

use candle_core::{CpuStorage, DType, Error, InplaceOp1, Layout, Result, Storage, Tensor};
use rayon::prelude::*;

/// Elements that one task works on: enough to pay for handing it over, few enough to stay in the first-level cache.
const CHUNK: usize = 8192;

/// Whether the kernels here compute with this tensor: they are for f32 on the CPU.
pub(crate) fn has_kernels_for(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// Lends the contiguous f32 elements of CPU tensors.
pub(crate) fn with_slices<const N: usize, R>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
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
pub(crate) fn in_place<R>(tensor: &Tensor, f: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
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

/// The name of what decides in which order a product is summed: the kind of processor and its widest vectors.
pub(crate) fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "x86-64 with avx512";
        }
        if std::arch::is_x86_feature_detected!("fma") {
            return "x86-64 with fma";
        }
    }
    std::env::consts::ARCH
}

/// Runs `f` compiled for the widest vectors that this processor has.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
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

/// Adds `x` to `sum`, which nobody else holds.
pub(crate) fn add_to(sum: &Tensor, x: &Tensor) -> Result<()> {
    with_slices([x], |[x]| {
        in_place(sum, |sum| {
            let both = sum.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK));
            both.for_each(|(sum, x)| vectorised(|| accumulate(sum, x)));
        })
    })?
}

/// Adds `bias` [width] to each row of `y` [rows, width], which nobody else holds.
pub(crate) fn add_bias(y: &Tensor, bias: &Tensor) -> Result<()> {
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
pub(crate) fn sum_rows(x: &Tensor) -> Result<Tensor> {
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

#[inline(always)]
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
pub(crate) fn sum_of_squares(x: &Tensor) -> Result<f64> {
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
pub(crate) fn is_finite(x: &Tensor) -> Result<bool> {
    with_slices([x], |[x]| x.par_chunks(CHUNK).all(|chunk| chunk.iter().all(|x| x.is_finite())))
}

/// The largest element; −∞ where there is none.
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
    let y = f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23));
    if x.is_nan() { x } else { y }
}

/// tanh x to within 3 units in the last place, without branches so that loops over it vectorise (near 0 the polynomial is
/// that of Cephes' `tanhf`).
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let square = x * x;
    let mut p = -5.704_988_7e-3;
    for coefficient in [2.063_909e-2, -5.373_971_5e-2, 1.333_144_2e-1, -3.333_328e-1] {
        p = p * square + coefficient;
    }
    let near = x + x * square * p;
    let far = (1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0)).copysign(x);
    if x.abs() < 0.625 { near } else { far }
}

/// `cap · tanh(x / cap)`.
#[inline(always)]
fn softcap(x: f32, cap: f32) -> f32 {
    cap * tanh(x / cap)
}

/// The derivative of [`softcap`], by its value: `1 − (y / cap)²`.
#[inline(always)]
fn softcap_slope(y: f32, cap: f32) -> f32 {
    let t = y / cap;
    1.0 - t * t
}

/// e^x as a part of a sum of such that is at least 1. Below e^−60 it is 0, as no f32 sum shows so little of it: products
/// with still smaller parts would be subnormal, and processors take ten times as long over those.
#[inline(always)]
fn softmax_part(x: f32) -> f32 {
    let y = exp(x);
    if x < -60.0 { 0.0 } else { y }
}

#[cfg(test)]
mod tests {
    use super::{exp, tanh};

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for k in -8600..8800 {
            let x = k as f32 / 100.0 + 0.003;
            let (ours, theirs) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours / theirs - 1.0).abs() < 3e-7, "{x}: {ours} {theirs}");
        }
        for bits in [0x7fff_ffff, 0xffff_ffff, 0x7fc0_0001, 0x7f80_0001] {
            assert!(exp(f32::from_bits(bits)).is_nan(), "{bits:x}");
        }
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn tanh_agrees_with_the_standard_library() {
        for k in -12000..12000 {
            let x = k as f32 / 1000.0 + 0.0003;
            let (ours, theirs) = (f64::from(tanh(x)), f64::from(x).tanh());
            assert!((ours / theirs - 1.0).abs() < 3e-7, "{x}: {ours} {theirs}");
        }
        assert_eq!((tanh(0.0), tanh(200.0), tanh(-200.0)), (0.0, 1.0, -1.0));
        assert!(tanh(f32::NAN).is_nan());
    }
}
