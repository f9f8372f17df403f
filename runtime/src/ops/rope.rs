//! Rotary position embedding in the half-split form: dimension k rotates with dimension k + pairs.

use candle_core::{D, DType, Device, Result, Tensor};
use frostline_schemas::model::RopeSpec;

use super::cpu;
#[cfg(feature = "cuda")]
use super::cuda;

/// Cosines and sines for the positions of a sequence, [sequence, pairs] each.
#[derive(Clone, Debug)]
pub struct Table {
    cos: Tensor,
    sin: Tensor,
}

impl Table {
    /// Angles are position × frequency, in f64.
    pub fn new(spec: &RopeSpec, sequence: usize, device: &Device) -> Result<Table> {
        let frequencies = spec.frequencies();
        let pairs = frequencies.len();
        let mut cos = Vec::with_capacity(sequence * pairs);
        let mut sin = Vec::with_capacity(sequence * pairs);
        for position in 0..sequence {
            for frequency in &frequencies {
                let (s, c) = (position as f64 * frequency).sin_cos();
                cos.push(c as f32);
                sin.push(s as f32);
            }
        }
        let tensor = |values: Vec<f32>| Tensor::from_vec(values, (sequence, pairs), device);
        Ok(Table { cos: tensor(cos)?, sin: tensor(sin)? })
    }
}

/// Rotates rows [rows, heads, head_dim] by the angles of their positions.
pub fn forward(x: &Tensor, table: &Table, positions: &[u32]) -> Result<Tensor> {
    rotate(x, table, positions, false)
}

/// The derivative of a rotation is the rotation: its transpose rotates the gradient back.
pub fn backward(dy: &Tensor, table: &Table, positions: &[u32]) -> Result<Tensor> {
    rotate(dy, table, positions, true)
}

fn rotate(x: &Tensor, table: &Table, positions: &[u32], back: bool) -> Result<Tensor> {
    if cpu::has_kernels_for(x) {
        return cpu::rope::rotate(x, [&table.cos, &table.sin], positions, back);
    }
    #[cfg(feature = "cuda")]
    if cuda::has_kernels_for([x]) && cuda::has_kernels_for([&table.cos, &table.sin]) {
        return cuda::rope::rotate(x, [&table.cos, &table.sin], positions, back);
    }
    reference(x, table, positions, back)
}

fn reference(x: &Tensor, table: &Table, positions: &[u32], back: bool) -> Result<Tensor> {
    let (dtype, head_dim, pairs) = (x.dtype(), x.dim(D::Minus1)?, table.cos.dim(1)?);
    let positions = Tensor::from_slice(positions, positions.len(), x.device())?;
    let cos = table.cos.index_select(&positions, 0)?.unsqueeze(1)?;
    let sin = table.sin.index_select(&positions, 0)?.unsqueeze(1)?;
    let sin = if back { sin.neg()? } else { sin };
    let upcast = x.to_dtype(DType::F32)?;
    let (low, high) = (upcast.narrow(D::Minus1, 0, pairs)?, upcast.narrow(D::Minus1, pairs, pairs)?);
    let rotated_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
    let rotated_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
    let kept = upcast.narrow(D::Minus1, 2 * pairs, head_dim - 2 * pairs)?;
    let parts =
        if 2 * pairs == head_dim { vec![rotated_low, rotated_high] } else { vec![rotated_low, rotated_high, kept] };
    Tensor::cat(&parts, D::Minus1)?.to_dtype(dtype)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, random};
    use super::*;
    use frostline_schemas::model::RopeScaling;

    #[test]
    fn kernels_agree_with_the_reference() {
        let x = random(&[5, 3, 10], 1);
        // With eight of the ten dimensions, the last two are kept.
        for width in [10, 8] {
            let spec = RopeSpec { width, theta: 100.0, scaling: RopeScaling::None };
            let table = Table::new(&spec, 7, &Device::Cpu).unwrap();
            for back in [false, true] {
                let positions = [0, 6, 2, 2, 1];
                close(
                    &rotate(&x, &table, &positions, back).unwrap(),
                    &reference(&x, &table, &positions, back).unwrap(),
                );
            }
        }
    }
    #[cfg(feature = "cuda")]
    #[test]
    #[ignore = "needs a CUDA device"]
    fn kernels_agree_with_the_reference_on_cuda() {
        use super::super::tests::on_cuda;
        on_cuda(|on| {
            let (x, upcast) = on.random(&[5, 3, 10], 1);
            for width in [10, 8] {
                let spec = RopeSpec { width, theta: 100.0, scaling: RopeScaling::None };
                let table = Table::new(&spec, 7, &on.device).unwrap();
                for back in [false, true] {
                    let positions = [0, 6, 2, 2, 1];
                    let theirs = reference(&upcast, &table, &positions, back).unwrap();
                    on.close(&rotate(&x, &table, &positions, back).unwrap(), &theirs);
                }
            }
        });
    }
}
