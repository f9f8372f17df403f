//! Activations, alone and gated: `activation(gate) · up`.

use candle_core::{Result, Tensor};
use frostline_schemas::model::Activation;

#[cfg(feature = "cuda")]
use super::cuda;
use super::{cpu, on_kernels};

/// √(2/π), of the tanh form of GELU (Hendrycks & Gimpel, arXiv 1606.08415).
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
/// The cubic term of the same.
const CUBIC: f64 = 0.044_715;
/// 1/√(2π): the normal density at 0.
const DENSITY_AT_0: f64 = 0.398_942_280_401_432_7;

/// `y = activation(x)`, elementwise.
pub fn forward(x: &Tensor, kind: Activation) -> Result<Tensor> {
    if on_kernels(x) {
        return cpu::activation::forward(x, kind);
    }
    #[cfg(feature = "cuda")]
    if cuda::takes([x]) {
        return cuda::activation::forward(x, kind);
    }
    composed(x, kind)
}

fn composed(x: &Tensor, kind: Activation) -> Result<Tensor> {
    match kind {
        Activation::Silu => x.silu(),
        Activation::GeluTanh => x.gelu(),
        Activation::Gelu => x.gelu_erf(),
        Activation::Relu => x.relu(),
    }
}

/// `dx = dy · activation′(x)`.
pub fn backward(dy: &Tensor, x: &Tensor, kind: Activation) -> Result<Tensor> {
    if on_kernels(x) {
        return cpu::activation::backward(dy, x, kind);
    }
    #[cfg(feature = "cuda")]
    if cuda::takes([x, dy]) {
        return cuda::activation::backward(dy, x, kind);
    }
    dy * derivative(x, kind)?
}

/// `y = activation(gate) · up`, elementwise.
pub fn gated_forward(gate: &Tensor, up: &Tensor, kind: Activation) -> Result<Tensor> {
    if on_kernels(gate) {
        return cpu::activation::gated(gate, up, kind);
    }
    #[cfg(feature = "cuda")]
    if cuda::takes([gate, up]) {
        return cuda::activation::gated(gate, up, kind);
    }
    forward(gate, kind)? * up
}

/// `dgate = dy · up · activation′(gate)` and `dup = dy · activation(gate)`.
pub fn gated_backward(dy: &Tensor, gate: &Tensor, up: &Tensor, kind: Activation) -> Result<(Tensor, Tensor)> {
    if on_kernels(gate) {
        return cpu::activation::gated_backward(dy, gate, up, kind);
    }
    #[cfg(feature = "cuda")]
    if cuda::takes([gate, up, dy]) {
        return cuda::activation::gated_backward(dy, gate, up, kind);
    }
    Ok((((dy * up)? * derivative(gate, kind)?)?, (dy * forward(gate, kind)?)?))
}

/// The derivative, with candle's operations.
fn derivative(x: &Tensor, kind: Activation) -> Result<Tensor> {
    match kind {
        // σ(x) (1 + x (1 − σ(x)))
        Activation::Silu => {
            let s = candle_nn::ops::sigmoid(x)?;
            let rest = s.affine(-1.0, 1.0)?;
            &s * ((x * rest)? + 1.0)?
        }
        // ½ (1 + t) + ½ x (1 − t²) u′ with t = tanh u, u = √(2/π) (x + c x³)
        Activation::GeluTanh => {
            let square = x.sqr()?;
            let t = (x * square.affine(SQRT_2_OVER_PI * CUBIC, SQRT_2_OVER_PI)?)?.tanh()?;
            let slope = square.affine(3.0 * SQRT_2_OVER_PI * CUBIC, SQRT_2_OVER_PI)?;
            let bend = ((t.sqr()?.affine(-0.5, 0.5)? * x)? * slope)?;
            t.affine(0.5, 0.5)? + bend
        }
        // Φ(x) + x φ(x)
        Activation::Gelu => {
            let below = (x * std::f64::consts::FRAC_1_SQRT_2)?.erf()?.affine(0.5, 0.5)?;
            let density = (x.sqr()?.affine(-0.5, 0.0)?.exp()? * DENSITY_AT_0)?;
            below + (x * density)?
        }
        Activation::Relu => x.gt(0f32)?.to_dtype(x.dtype()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, random};
    use super::*;

    #[test]
    fn both_spellings_agree() {
        let x = (random(&[4, 5000], 1) * 3.0).unwrap();
        let (up, dy) = (random(&[4, 5000], 2), random(&[4, 5000], 3));
        for kind in [Activation::Silu, Activation::GeluTanh, Activation::Gelu, Activation::Relu] {
            let (value, slope) = (composed(&x, kind).unwrap(), derivative(&x, kind).unwrap());
            close(&forward(&x, kind).unwrap(), &value);
            close(&backward(&dy, &x, kind).unwrap(), &(&dy * &slope).unwrap());
            close(&gated_forward(&x, &up, kind).unwrap(), &(&value * &up).unwrap());
            let (dgate, dup) = gated_backward(&dy, &x, &up, kind).unwrap();
            close(&dgate, &((&dy * &up).unwrap() * &slope).unwrap());
            close(&dup, &(&dy * &value).unwrap());
        }
    }
    #[cfg(feature = "cuda")]
    #[test]
    fn both_spellings_agree_on_cuda() {
        use super::super::tests::on_cuda;
        on_cuda(|on| {
            let ((up, wide_up), (dy, wide_dy)) = (on.random(&[4, 5000], 2), on.random(&[4, 5000], 3));
            let x = (on.random(&[4, 5000], 1).0 * 3.0).unwrap();
            let wide_x = x.to_dtype(candle_core::DType::F32).unwrap();
            for kind in [Activation::Silu, Activation::GeluTanh, Activation::Gelu, Activation::Relu] {
                let (value, slope) = (composed(&wide_x, kind).unwrap(), derivative(&wide_x, kind).unwrap());
                on.close(&forward(&x, kind).unwrap(), &value);
                on.close(&backward(&dy, &x, kind).unwrap(), &(&wide_dy * &slope).unwrap());
                on.close(&gated_forward(&x, &up, kind).unwrap(), &(&value * &wide_up).unwrap());
                let (dgate, dup) = gated_backward(&dy, &x, &up, kind).unwrap();
                on.close(&dgate, &((&wide_dy * &wide_up).unwrap() * &slope).unwrap());
                on.close(&dup, &(&wide_dy * &value).unwrap());
            }
        });
    }
}
