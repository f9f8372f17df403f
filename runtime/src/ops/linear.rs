//! `y = x Wᵀ + b`, over rows of x.

use candle_core::{Error, Result, Tensor};
use frostline_schemas::model::LinearLayout;

use super::cpu::{self, product};
use super::matrix::{Matrix, WriteMode};

/// [rows, inputs] → [rows, outputs]. `weight` lies as `layout` says, `bias` is `[outputs]`.
pub fn forward(x: &Tensor, weight: &Matrix, bias: Option<&Tensor>, layout: LinearLayout) -> Result<Tensor> {
    let y = match layout {
        LinearLayout::OutputsFirst => times_transposed(x, weight, None)?,
        LinearLayout::InputsFirst => times(x, weight, None)?,
    };
    match bias {
        Some(bias) if cpu::has_kernels_for(&y) => cpu::add_bias(&y, bias).map(|()| y),
        Some(bias) => y.broadcast_add(&bias.to_dtype(y.dtype())?),
        None => Ok(y),
    }
}

/// `x Wᵀ`, added to `sum`, which nobody else holds.
pub fn forward_onto(x: &Tensor, weight: &Matrix, layout: LinearLayout, sum: Tensor) -> Result<Tensor> {
    match layout {
        LinearLayout::OutputsFirst => times_transposed(x, weight, Some(sum)),
        LinearLayout::InputsFirst => times(x, weight, Some(sum)),
    }
}

/// `dx = dy W`, added to `sum` where there is one, which nobody else holds.
pub fn input_gradient(dy: &Tensor, weight: &Matrix, layout: LinearLayout, sum: Option<Tensor>) -> Result<Tensor> {
    match layout {
        LinearLayout::OutputsFirst => times(dy, weight, sum),
        LinearLayout::InputsFirst => times_transposed(dy, weight, sum),
    }
}

/// `dW = dyᵀ x` (its transpose where inputs come first), written over what `gradient` holds or added to it.
pub fn weight_gradient(
    dy: &Tensor,
    x: &Tensor,
    layout: LinearLayout,
    gradient: &Tensor,
    into: WriteMode,
) -> Result<()> {
    let (a, b) = by_layout(dy, x, layout);
    let (rows, columns) = (a.dim(1)?, b.dim(1)?);
    cpu::with_slices([a, b], |[a, b]| cpu::in_place(gradient, |w| product::outer(a, rows, b, columns, w, into)))?
}

/// The same as a tensor of its own, on any device.
pub fn reference_weight_gradient(dy: &Tensor, x: &Tensor, layout: LinearLayout) -> Result<Tensor> {
    let (a, b) = by_layout(dy, x, layout);
    a.t()?.matmul(b)
}

fn by_layout<'a>(dy: &'a Tensor, x: &'a Tensor, layout: LinearLayout) -> (&'a Tensor, &'a Tensor) {
    match layout {
        LinearLayout::OutputsFirst => (dy, x),
        LinearLayout::InputsFirst => (x, dy),
    }
}

/// `db` = sum of dy over its rows.
pub fn bias_gradient(dy: &Tensor) -> Result<Tensor> {
    if cpu::has_kernels_for(dy) { cpu::sum_rows(dy) } else { dy.sum(0) }
}

fn times_transposed(x: &Tensor, weight: &Matrix, sum: Option<Tensor>) -> Result<Tensor> {
    let (outputs, _) = weight.dims()?;
    multiply(x, weight, outputs, sum, product::times_transposed, |x, w| x.matmul(&w.t()?))
}

fn times(x: &Tensor, weight: &Matrix, sum: Option<Tensor>) -> Result<Tensor> {
    let (_, outputs) = weight.dims()?;
    multiply(x, weight, outputs, sum, product::times, |x, w| x.matmul(w))
}

fn multiply(
    x: &Tensor,
    weight: &Matrix,
    outputs: usize,
    sum: Option<Tensor>,
    kernel: impl Fn(&[f32], &Matrix, &mut [f32], WriteMode) -> Result<()>,
    reference: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if !cpu::has_kernels_for(x) {
        let Matrix::Tensor(weight) = weight else {
            return Err(Error::Msg("a mapped weight on a device that cannot read it".into()));
        };
        let y = reference(x, weight)?;
        return sum.map_or(Ok(y.clone()), |sum| sum + y);
    }
    if let Some(sum) = sum {
        cpu::with_slices([x], |[x]| cpu::in_place(&sum, |sum| kernel(x, weight, sum, WriteMode::Accumulate)))???;
        return Ok(sum);
    }
    let rows = x.dim(0)?;
    let mut y = vec![0.0; rows * outputs];
    cpu::with_slices([x], |[x]| kernel(x, weight, &mut y, WriteMode::Overwrite))??;
    Tensor::from_vec(y, (rows, outputs), x.device())
}
