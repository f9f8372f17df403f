//! Matrices as products read them: in memory, or as they lie in their file, upcast block by block.

use std::ops::Range;

use candle_core::{Error, Result, Tensor};
use frostline_schemas::model::TensorView;
use rayon::prelude::*;

use super::cpu::with_slices;

/// A weight, [rows, columns], row-major.
#[derive(Clone, Copy)]
pub enum Matrix<'a> {
    /// In memory.
    Tensor(&'a Tensor),
    /// As the file holds it: F32, BF16 or F16.
    Mapped(TensorView<'a>),
}

/// What happens to the values that an output holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// They are written over.
    Overwrite,
    /// What is computed is added to them.
    Accumulate,
}

impl Matrix<'_> {
    /// [rows, columns].
    pub fn dims(&self) -> Result<(usize, usize)> {
        match self {
            Matrix::Tensor(tensor) => tensor.dims2(),
            Matrix::Mapped(view) => match view.shape {
                [rows, columns] => Ok((*rows, *columns)),
                shape => Err(Error::Msg(format!("expected a matrix, got {shape:?}"))),
            },
        }
    }

    /// Lends the elements.
    pub fn with<R>(&self, f: impl FnOnce(Elements) -> Result<R>) -> Result<R> {
        let (rows, columns) = self.dims()?;
        match self {
            Matrix::Tensor(tensor) => {
                with_slices([tensor], |[values]| f(Elements { rows, columns, source: Source::F32(values) }))?
            }
            Matrix::Mapped(view) => {
                let source = view.as_f32().map_or(Source::Mapped(*view), Source::F32);
                f(Elements { rows, columns, source })
            }
        }
    }
}

/// The elements of a [`Matrix`].
#[derive(Clone, Copy)]
pub struct Elements<'a> {
    /// Number of rows.
    pub rows: usize,
    /// Elements of a row.
    pub columns: usize,
    source: Source<'a>,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    F32(&'a [f32]),
    /// To be upcast.
    Mapped(TensorView<'a>),
}

impl Elements<'_> {
    /// A block in f32: as it lies, or upcast into `upcast`.
    pub fn block<'a>(&'a self, rows: Range<usize>, columns: Range<usize>, upcast: &'a mut Vec<f32>) -> Strided<'a> {
        let start = rows.start * self.columns + columns.start;
        match &self.source {
            Source::F32(values) => Strided { values: &values[start..], row: self.columns, column: 1 },
            Source::Mapped(view) => {
                upcast.resize(rows.len() * columns.len(), 0.0);
                if columns.len() == self.columns {
                    view.read_f32(start, upcast);
                } else {
                    for (row, upcast) in rows.zip(upcast.chunks_exact_mut(columns.len().max(1))) {
                        view.read_f32(row * self.columns + columns.start, upcast);
                    }
                }
                Strided { values: upcast, row: columns.len(), column: 1 }
            }
        }
    }

    /// The whole in f32, upcast by all threads.
    pub(super) fn whole<'a>(&'a self, upcast: &'a mut Vec<f32>) -> Strided<'a> {
        match &self.source {
            Source::F32(values) => Strided::rows(values, self.columns),
            Source::Mapped(view) => {
                upcast.resize(self.rows * self.columns, 0.0);
                upcast.par_chunks_mut(1 << 16).enumerate().for_each(|(k, part)| {
                    view.read_f32(k << 16, part);
                });
                Strided::rows(upcast, self.columns)
            }
        }
    }
}

/// A matrix operand: element (i, j) is `values[i · row + j · column]`.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    /// All values.
    pub values: &'a [f32],
    /// Values from one row to the next.
    pub row: usize,
    /// Values from one column to the next.
    pub column: usize,
}

impl<'a> Strided<'a> {
    /// Rows of `width` elements, one after the other.
    pub fn rows(values: &'a [f32], width: usize) -> Strided<'a> {
        Strided { values, row: width, column: 1 }
    }

    /// Rows as columns.
    pub fn transposed(self) -> Strided<'a> {
        Strided { row: self.column, column: self.row, ..self }
    }

    /// Without the rows before `row`.
    pub fn from_row(self, row: usize) -> Strided<'a> {
        Strided { values: &self.values[row * self.row..], ..self }
    }

    /// Without the columns before `column`.
    pub fn from_column(self, column: usize) -> Strided<'a> {
        Strided { values: &self.values[column * self.column..], ..self }
    }

    pub(super) fn holds(&self, rows: usize, columns: usize) -> bool {
        let last = |count: usize, stride: usize| count.checked_sub(1)?.checked_mul(stride);
        let end = last(rows, self.row).zip(last(columns, self.column)).and_then(|(a, b)| a.checked_add(b));
        rows == 0 || columns == 0 || end.is_some_and(|end| end < self.values.len())
    }
}
