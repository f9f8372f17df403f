//! Activations, elementwise, alone and gated.

use candle_core::{Result, Tensor};
use frostline_schemas::model::Activation;
use rayon::prelude::*;

use super::{CHUNK, exp, map, vectorised, with_slices};

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
pub(crate) fn forward(x: &Tensor, kind: Activation) -> Result<Tensor> {
    with_activation!(kind, f => map(x, [x], |[x], out| {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = f(x).0;
        }
    }))
}

/// `dy · f′(x)`, elementwise.
pub(crate) fn backward(dy: &Tensor, x: &Tensor, kind: Activation) -> Result<Tensor> {
    with_activation!(kind, f => map(x, [dy, x], |[dy, x], out| {
        for ((out, dy), &x) in out.iter_mut().zip(dy).zip(x) {
            *out = dy * f(x).1;
        }
    }))
}

/// `f(gate) · up`, elementwise.
pub(crate) fn gated(gate: &Tensor, up: &Tensor, kind: Activation) -> Result<Tensor> {
    with_activation!(kind, f => map(gate, [gate, up], |[gate, up], out| {
        for ((out, &gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = f(gate).0 * up;
        }
    }))
}

/// `(dy · up · f′(gate), dy · f(gate))`, elementwise.
pub(crate) fn gated_backward(dy: &Tensor, gate: &Tensor, up: &Tensor, kind: Activation) -> Result<(Tensor, Tensor)> {
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
    if x <= 0.0 { (0.0, 0.0) } else { (x, 1.0) }
}
