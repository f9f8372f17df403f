//! `y = x + z`, whose derivative is 1 for both: the gradient passes unchanged to either side.

use candle_core::{Result, Tensor};

use super::{cpu, on_kernels};

/// `sum + x`, in the place of `sum`, which nobody else holds.
pub fn add(sum: Tensor, x: &Tensor) -> Result<Tensor> {
    if on_kernels(&sum) { cpu::add_to(&sum, x).map(|()| sum) } else { sum + x }
}
