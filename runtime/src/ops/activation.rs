//! Activations, alone and gated: `activation(gate) · up`.

use candle_core::{Result, Tensor};
use frostline_schemas::model::Activation;

use super::cpu;
#[cfg(feature = "cuda")]
use super::cuda;

/// √(2/π), of the tanh form of GELU (Hendrycks & Gimpel, arXiv 1606.08415).
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
/// The cubic term of the same.
const CUBIC: f64 = 0.044_715;
/// 1/√(2π): the normal density at 0.
const DENSITY_AT_0: f64 = 0.398_942_280_401_432_7;

/// `y = activation(x)`, elementwise.
pub fn forward(x: &Tensor, kind: Activation) -> Result<Tensor> {
    if cpu::has_kernels_for(x) {
        return cpu::activation::forward(x, kind);
    }
    #[cfg(feature = "cuda")]
    if cuda::has_kernels_for([x]) {
        return cuda::activation::forward(x, kind);
    }
    reference(x, kind)
}

fn reference(x: &Tensor, kind: Activation) -> Result<Tensor> {
    match kind {
        Activation::Silu => x.silu(),
        Activation::GeluTanh => x.gelu(),
        Activation::Gelu => x.gelu_erf(),
        Activation::Relu => x.relu(),
    }
}

/// `dx = dy · activation′(x)`.
pub fn backward(dy: &Tensor, x: &Tensor, kind: Activation) -> Result<Tensor> {
    if cpu::has_kernels_for(x) {
        return cpu::activation::backward(dy, x, kind);
    }
    #[cfg(feature = "cuda")]
    if cuda::has_kernels_for([x, dy]) {
        return cuda::activation::backward(dy, x, kind);
    }
    dy * derivative(x, kind)?
}

/// `y = activation(gate) · up`, elementwise.
pub fn gated_forward(gate: &Tensor, up: &Tensor, kind: Activation) -> Result<Tensor> {
    if cpu::has_kernels_for(gate) {
        return cpu::activation::gated(gate, up, kind);
    }
    #[cfg(feature = "cuda")]
    if cuda::has_kernels_for([gate, up]) {
        return cuda::activation::gated(gate, up, kind);
    }
    forward(gate, kind)? * up
}

/// `dgate = dy · up · activation′(gate)` and `dup = dy · activation(gate)`.
pub fn gated_backward(dy: &Tensor, gate: &Tensor, up: &Tensor, kind: Activation) -> Result<(Tensor, Tensor)> {
    if cpu::has_kernels_for(gate) {
        return cpu::activation::gated_backward(dy, gate, up, kind);
    }
    #[cfg(feature = "cuda")]
    if cuda::has_kernels_for([gate, up, dy]) {
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
    fn kernels_agree_with_the_reference() {
        let x = (random(&[4, 5000], 1) * 3.0).unwrap();
        let (up, dy) = (random(&[4, 5000], 2), random(&[4, 5000], 3));
        for kind in [Activation::Silu, Activation::GeluTanh, Activation::Gelu, Activation::Relu] {
            let (value, slope) = (reference(&x, kind).unwrap(), derivative(&x, kind).unwrap());
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
    #[ignore = "needs a CUDA device"]
    fn kernels_agree_with_the_reference_on_cuda() {
        use super::super::tests::on_cuda;
        on_cuda(|on| {
            let ((up, upcast_up), (dy, upcast_dy)) = (on.random(&[4, 5000], 2), on.random(&[4, 5000], 3));
            let x = (on.random(&[4, 5000], 1).0 * 3.0).unwrap();
            let upcast_x = x.to_dtype(candle_core::DType::F32).unwrap();
            for kind in [Activation::Silu, Activation::GeluTanh, Activation::Gelu, Activation::Relu] {
                let (value, slope) = (reference(&upcast_x, kind).unwrap(), derivative(&upcast_x, kind).unwrap());
                on.close(&forward(&x, kind).unwrap(), &value);
                on.close(&backward(&dy, &x, kind).unwrap(), &(&upcast_dy * &slope).unwrap());
                on.close(&gated_forward(&x, &up, kind).unwrap(), &(&value * &upcast_up).unwrap());
                let (dgate, dup) = gated_backward(&dy, &x, &up, kind).unwrap();
                on.close(&dgate, &((&upcast_dy * &upcast_up).unwrap() * &slope).unwrap());
                on.close(&dup, &(&upcast_dy * &value).unwrap());
            }
        });
    }
}
