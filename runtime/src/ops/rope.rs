//! Rotary position embedding in the half-split form: dimension k turns with dimension k + head_dim / 2.

use candle_core::{Device, Result, Tensor};
use frostline_schemas::decoder::RopeSpec;

/// Cosines and sines for the places of a sequence, [sequence, head_dim / 2] each.
#[derive(Clone, Debug)]
pub struct Table {
    cos: Tensor,
    sin: Tensor,
    /// −sin: turning back is turning by the negative angle.
    back: Tensor,
}

impl Table {
    /// Angles are place × frequency, in f64.
    pub fn new(spec: &RopeSpec, head_dim: usize, sequence: usize, device: &Device) -> Result<Table> {
        let frequencies = spec.frequencies(head_dim);
        let planes = frequencies.len();
        let mut cos = Vec::with_capacity(sequence * planes);
        let mut sin = Vec::with_capacity(sequence * planes);
        for place in 0..sequence {
            for frequency in &frequencies {
                let (s, c) = (place as f64 * frequency).sin_cos();
                cos.push(c as f32);
                sin.push(s as f32);
            }
        }
        let back = sin.iter().map(|s| -s).collect();
        let tensor = |values: Vec<f32>| Tensor::from_vec(values, (sequence, planes), device);
        Ok(Table { cos: tensor(cos)?, sin: tensor(sin)?, back: tensor(back)? })
    }
}

/// Turns [batch, sequence, heads, head_dim] by each place's angles.
pub fn forward(x: &Tensor, table: &Table) -> Result<Tensor> {
    candle_nn::rotary_emb::rope_thd(&x.contiguous()?, &table.cos, &table.sin)
}

/// The derivative of a rotation is the rotation: its transpose turns the gradient back.
pub fn backward(dy: &Tensor, table: &Table) -> Result<Tensor> {
    candle_nn::rotary_emb::rope_thd(&dy.contiguous()?, &table.cos, &table.back)
}
