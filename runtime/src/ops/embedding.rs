//! Rows of a table, by index: backward only, as forward is [`Parameters::rows`](crate::model::Parameters::rows).

use candle_core::{Result, Tensor};

/// The table's gradient, `[table_rows, hidden]`: each row is the sum of dy [tokens, hidden] where it was read.
pub fn backward(dy: &Tensor, ids: &Tensor, table_rows: usize) -> Result<Tensor> {
    let zeros = Tensor::zeros((table_rows, dy.dim(1)?), dy.dtype(), dy.device())?;
    zeros.index_add(ids, dy, 0)
}
