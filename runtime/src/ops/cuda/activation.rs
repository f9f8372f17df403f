//! Activations, elementwise, alone and gated. Operands have one shape and type.

use candle_core::{DType, Error, Result, Shape, Tensor};
use frostline_schemas::model::Activation;

use super::{Grid, run};

/// `f(x)`.
pub(crate) fn forward(x: &Tensor, kind: Activation) -> Result<Tensor> {
    let [y] = elementwise("activation_forward", [x], kind)?;
    Ok(y)
}

/// `dy · f′(x)`.
pub(crate) fn backward(dy: &Tensor, x: &Tensor, kind: Activation) -> Result<Tensor> {
    let [dx] = elementwise("activation_backward", [dy, x], kind)?;
    Ok(dx)
}

/// `f(gate) · up`.
pub(crate) fn gated(gate: &Tensor, up: &Tensor, kind: Activation) -> Result<Tensor> {
    let [y] = elementwise("gated_forward", [gate, up], kind)?;
    Ok(y)
}

/// `(dy · up · f′(gate), dy · f(gate))`.
pub(crate) fn gated_backward(dy: &Tensor, gate: &Tensor, up: &Tensor, kind: Activation) -> Result<(Tensor, Tensor)> {
    let [dgate, dup] = elementwise("gated_backward", [dy, gate, up], kind)?;
    Ok((dgate, dup))
}

fn elementwise<const R: usize, const W: usize>(
    kernel: &str,
    reads: [&Tensor; R],
    kind: Activation,
) -> Result<[Tensor; W]> {
    let like: (&Shape, DType) = (reads[0].shape(), reads[0].dtype());
    if reads.iter().any(|tensor| (tensor.shape(), tensor.dtype()) != like) {
        return Err(Error::Msg(format!("{kernel} of tensors of different shapes or types")));
    }
    let (grid, sizes) = (Grid::elements(like.0.elem_count()), [like.0.elem_count(), number(kind)]);
    // SAFETY: all have as many elements, and each of them is read and written by one thread.
    unsafe { run(kernel, grid, reads, [like; W], &sizes, &[]) }
}

/// As `activate` in the source counts them.
fn number(kind: Activation) -> usize {
    match kind {
        Activation::Silu => 0,
        Activation::GeluTanh => 1,
        Activation::Gelu => 2,
        Activation::Relu => 3,
    }
}
