//! `y = x Wᵀ + b`.

use candle_core::{Result, Tensor};
use frostline_schemas::decoder::LinearLayout;

use super::{Gradients, Wanted, cpu, rows};

/// [.., inputs] → [.., outputs]. `weight` lies as `layout` says, `bias` is `[outputs]`.
pub fn forward(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, layout: LinearLayout) -> Result<Tensor> {
    let inputs_first = match layout {
        LinearLayout::OutputsFirst => weight.t()?,
        LinearLayout::InputsFirst => weight.clone(),
    };
    let mut y = rows(x)?.matmul(&inputs_first)?;
    match bias {
        Some(bias) if y.device().is_cpu() => cpu::add_bias(&y, bias)?,
        Some(bias) => y = y.broadcast_add(bias)?,
        None => (),
    }
    let mut shape = x.dims().to_vec();
    if let Some(width) = shape.last_mut() {
        *width = y.dim(1)?;
    }
    y.reshape(shape)
}

/// `dx = dy W`, `dW = dyᵀ x` (its transpose where inputs come first), `db` = sum of dy over all places.
///
/// `x` is what [`forward`] was given; it is needed for the weight's gradient alone.
pub fn backward(
    dy: &Tensor,
    x: Option<&Tensor>,
    weight: &Tensor,
    layout: LinearLayout,
    wanted: Wanted,
) -> Result<Gradients> {
    let flat = rows(dy)?;
    let mut gradients = Gradients::default();
    if wanted.input {
        let outputs_first = match layout {
            LinearLayout::OutputsFirst => weight.clone(),
            LinearLayout::InputsFirst => weight.t()?,
        };
        let dx = flat.matmul(&outputs_first)?;
        let mut shape = dy.dims().to_vec();
        if let Some(width) = shape.last_mut() {
            *width = dx.dim(1)?;
        }
        gradients.input = Some(dx.reshape(shape)?);
    }
    if wanted.weight {
        let x = x.ok_or_else(|| candle_core::Error::Msg("a linear layer's input was not saved".into()))?;
        gradients.weight = Some(match layout {
            LinearLayout::OutputsFirst => flat.t()?.matmul(&rows(x)?)?,
            LinearLayout::InputsFirst => rows(x)?.t()?.matmul(&flat)?,
        });
    }
    if wanted.bias {
        gradients.bias = Some(if flat.device().is_cpu() { cpu::sum_rows(&flat)? } else { flat.sum(0)? });
    }
    Ok(gradients)
}
