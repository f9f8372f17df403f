//! Normalisation over the last dimension: RMS norm, RMS norm with a weight counted from one, LayerNorm.

use candle_core::{D, DType, Result, Tensor};
use frostline_schemas::model::NormKind;

#[cfg(feature = "cuda")]
use super::cuda;
use super::{NeedsGrad, NormGradients, cpu};

/// [.., width] → the same shape, computed in f32. `weight` and `bias` are `[width]`; `epsilon` is added to the mean square (the variance).
pub fn forward(x: &Tensor, kind: NormKind, epsilon: f64, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let gain = gain(kind, weight)?;
    if cpu::has_kernels_for(x) {
        return cpu::norm::forward(x, kind, epsilon as f32, &gain, bias);
    }
    #[cfg(feature = "cuda")]
    if cuda::norm::fits(x, &gain, bias) {
        return cuda::norm::forward(x, kind, epsilon as f32, &gain, bias);
    }
    reference(x, kind, epsilon, &gain, bias)
}

fn reference(x: &Tensor, kind: NormKind, epsilon: f64, gain: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (dtype, x) = (x.dtype(), x.contiguous()?.to_dtype(DType::F32)?);
    let y = match (kind, bias) {
        (NormKind::Layer, Some(bias)) => candle_nn::ops::layer_norm(&x, gain, bias, epsilon as f32),
        (NormKind::Layer, None) => candle_nn::ops::layer_norm(&x, gain, &gain.zeros_like()?, epsilon as f32),
        _ => candle_nn::ops::rms_norm(&x, gain, epsilon as f32),
    };
    y?.to_dtype(dtype)
}

/// With x̂ the normalised input, r what it was multiplied by (1/rms, or 1/deviation), and g = dy · gain:
/// `dx = r (g − x̂ mean(g x̂))`, for LayerNorm `dx = r (g − mean(g) − x̂ mean(g x̂))`; `dw` = Σ dy x̂; `db` = Σ dy.
///
/// `x` is what [`forward`] was given; r is computed again from it.
pub fn backward(
    dy: &Tensor,
    x: &Tensor,
    kind: NormKind,
    epsilon: f64,
    weight: &Tensor,
    needs_grad: NeedsGrad,
) -> Result<NormGradients> {
    let gain = gain(kind, weight)?;
    if cpu::has_kernels_for(x) {
        return cpu::norm::backward(dy, x, kind, epsilon as f32, &gain, needs_grad);
    }
    #[cfg(feature = "cuda")]
    if cuda::norm::fits(x, &gain, None) && cuda::has_kernels_for([x, dy]) {
        return cuda::norm::backward(dy, x, kind, epsilon as f32, &gain, needs_grad);
    }
    reference_backward(dy, x, kind, epsilon, &gain, needs_grad)
}

fn reference_backward(
    dy: &Tensor,
    x: &Tensor,
    kind: NormKind,
    epsilon: f64,
    gain: &Tensor,
    needs_grad: NeedsGrad,
) -> Result<NormGradients> {
    let flat = |x: &Tensor| x.to_dtype(DType::F32)?.reshape(((), gain.elem_count()));
    let (dy_rows, x) = (flat(dy)?, flat(x)?);
    let centred = match kind {
        NormKind::Layer => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
        _ => x,
    };
    let r = (centred.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?.recip()?;
    let unit = centred.broadcast_mul(&r)?;
    let mut gradients = NormGradients::default();
    if needs_grad.input {
        let g = dy_rows.broadcast_mul(gain)?;
        let along = unit.broadcast_mul(&(&g * &unit)?.mean_keepdim(D::Minus1)?)?;
        let g = match kind {
            NormKind::Layer => g.broadcast_sub(&g.mean_keepdim(D::Minus1)?)?,
            _ => g,
        };
        gradients.input = Some((g - along)?.broadcast_mul(&r)?.reshape(dy.shape())?.to_dtype(dy.dtype())?);
    }
    if needs_grad.weight {
        gradients.weight = Some((&dy_rows * &unit)?.sum(0)?);
    }
    if needs_grad.bias {
        gradients.bias = Some(dy_rows.sum(0)?);
    }
    Ok(gradients)
}

/// What the normalised input is multiplied by.
fn gain(kind: NormKind, weight: &Tensor) -> Result<Tensor> {
    match kind {
        NormKind::RmsUnitOffset => weight + 1.0,
        _ => Ok(weight.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, random};
    use super::*;

    #[test]
    fn kernels_agree_with_the_reference() {
        let (x, dy) = (random(&[3, 5, 37], 1), random(&[3, 5, 37], 2));
        let (weight, bias) = (random(&[37], 3), random(&[37], 4));
        let needs_grad = NeedsGrad { input: true, weight: true, bias: true };
        for kind in [NormKind::Rms, NormKind::RmsUnitOffset, NormKind::Layer] {
            let bias = (kind == NormKind::Layer).then_some(&bias);
            let gain = gain(kind, &weight).unwrap();
            close(&forward(&x, kind, 1e-6, &weight, bias).unwrap(), &reference(&x, kind, 1e-6, &gain, bias).unwrap());
            let ours = backward(&dy, &x, kind, 1e-6, &weight, needs_grad).unwrap();
            let theirs = reference_backward(&dy, &x, kind, 1e-6, &gain, needs_grad).unwrap();
            close(&ours.input.unwrap(), &theirs.input.unwrap());
            close(&ours.weight.unwrap(), &theirs.weight.unwrap());
            close(&ours.bias.unwrap(), &theirs.bias.unwrap());
        }
    }
    /// Rows as wide as a head and as a model, and more rows than one chunk of the sums over them.
    #[cfg(feature = "cuda")]
    #[test]
    #[ignore = "needs a CUDA device"]
    fn kernels_agree_with_the_reference_on_cuda() {
        use super::super::tests::on_cuda;
        let needs_grad = NeedsGrad { input: true, weight: true, bias: true };
        on_cuda(|on| {
            for (rows, width) in [(1, 5), (3, 37), (70, 64), (33, 896)] {
                let ((x, upcast_x), (dy, upcast_dy)) = (on.random(&[rows, width], 1), on.random(&[rows, width], 2));
                let [weight, bias] = [3, 4].map(|seed| random(&[width], seed).to_device(&on.device).unwrap());
                for kind in [NormKind::Rms, NormKind::RmsUnitOffset, NormKind::Layer] {
                    let bias = (kind == NormKind::Layer).then_some(&bias);
                    let gain = gain(kind, &weight).unwrap();
                    let y = forward(&x, kind, 1e-6, &weight, bias).unwrap();
                    on.close(&y, &reference(&upcast_x, kind, 1e-6, &gain, bias).unwrap());
                    let ours = backward(&dy, &x, kind, 1e-6, &weight, needs_grad).unwrap();
                    let theirs = reference_backward(&upcast_dy, &upcast_x, kind, 1e-6, &gain, needs_grad).unwrap();
                    on.close(&ours.input.unwrap(), &theirs.input.unwrap());
                    // Sums of f32 over so many rows, in another order.
                    on.within(&ours.weight.unwrap(), &theirs.weight.unwrap(), 2e-5);
                    on.within(&ours.bias.unwrap(), &theirs.bias.unwrap(), 2e-5);
                }
            }
        });
    }
}
