//! Rows of a table, by index.

use candle_core::{Result, Tensor};

/// Rows of `table` [rows, hidden] at `ids` [batch, sequence] → [batch, sequence, hidden].
pub fn forward(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (batch, sequence) = ids.dims2()?;
    table.index_select(&ids.flatten_all()?, 0)?.reshape((batch, sequence, ()))
}

/// The table's gradient, `[table_rows, hidden]`: each row is the sum of dy [batch, sequence, hidden] where it was read.
pub fn backward(dy: &Tensor, ids: &Tensor, table_rows: usize) -> Result<Tensor> {
    let dy = super::rows(dy)?;
    let zeros = Tensor::zeros((table_rows, dy.dim(1)?), dy.dtype(), dy.device())?;
    zeros.index_add(&ids.flatten_all()?, &dy, 0)
}
