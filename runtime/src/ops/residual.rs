//! `y = x + z`, whose derivative is 1 for both: the gradient passes unchanged to either side.

use candle_core::{Result, Tensor};

use super::cpu;

/// `sum + x`, in the place of `sum`, which nobody else holds.
pub fn add(sum: Tensor, x: &Tensor) -> Result<Tensor> {
    if cpu::has_kernels_for(&sum) { cpu::add_to(&sum, x).map(|()| sum) } else { sum + x }
}
