//! Some rows of a matrix: where targets are predicted, or what belongs to a sequence.

use candle_core::{Device, Result, Tensor};

use super::cpu;

/// Row numbers, each at most once.
#[derive(Clone, Debug)]
pub struct Selection {
    rows: Vec<u32>,
    on_device: Option<Tensor>,
}

impl Selection {
    /// The rows of these indices, which rise.
    pub fn new(rows: Vec<u32>, device: &Device) -> Result<Selection> {
        let on_device = if device.is_cpu() { None } else { Some(Tensor::from_slice(&rows, rows.len(), device)?) };
        Ok(Selection { rows, on_device })
    }

    fn tensor(&self, device: &Device) -> Result<Tensor> {
        match &self.on_device {
            Some(tensor) => Ok(tensor.clone()),
            None => Tensor::from_slice(&self.rows, self.rows.len(), device),
        }
    }
}

/// The selected rows of [rows, ..].
pub fn forward(x: &Tensor, selection: &Selection) -> Result<Tensor> {
    if cpu::has_kernels_for(x) {
        return cpu::select::gather(x, &selection.rows);
    }
    x.contiguous()?.index_select(&selection.tensor(x.device())?, 0)
}

/// Adds the gradient of selected rows to that of all rows, `sum`, which nobody else holds.
pub fn backward(dy: &Tensor, selection: &Selection, sum: Tensor) -> Result<Tensor> {
    if cpu::has_kernels_for(dy) {
        return cpu::select::scatter_to(&sum, dy, &selection.rows).map(|()| sum);
    }
    sum.index_add(&selection.tensor(dy.device())?, &dy.contiguous()?, 0)
}
