//! Whether a quantised matrix was made from a tensor.
//!
//! Rounding to b bits moves a weight by up to half of 2^−b of its block's range, so the two can only be near each other.
//! Matrices of different models, layers or roles are not: their difference is as large as they are. But a model that was
//! trained a little further from the same weights comes as near as the model itself.

use rayon::prelude::*;

use super::folder_matrix::FolderMatrix;
use super::sizes::MatrixSizes;
use crate::onnx::quantised::Quantised;

/// The relative distance that a matrix of one bit might have; each bit halves it. Weights are some 2.5 times smaller
/// than the largest of their block, so rounding leaves a third of it.
const OF_ONE_BIT: f64 = 2.0;

/// Whether the distance of a source and a quantised matrix of these sizes is within what rounding explains, as the source
/// lies or transposed.
pub(super) fn near(source: &FolderMatrix, sizes: MatrixSizes, matrix: &Quantised) -> bool {
    let (rows, columns) = sizes;
    (source.sizes == sizes && near_rows(sizes, matrix, |start, out| source.read(start, out)))
        || (source.sizes == (columns, rows) && rows > 1 && {
            let transpose = transposed(source);
            near_rows(sizes, matrix, |start, out| out.copy_from_slice(&transpose[start..][..columns]))
        })
}

/// The same for a source of the same sizes, of which `read` gives the elements from an index on.
fn near_rows((rows, columns): MatrixSizes, matrix: &Quantised, read: impl Fn(usize, &mut [f32]) + Sync) -> bool {
    let distances = |row: usize| {
        let (mut source, mut found) = (vec![0.0; columns], vec![0.0; columns]);
        read(row * columns, &mut source);
        matrix.read_row(row, &mut found);
        let pairs = source.iter().zip(&found).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        pairs.fold((0.0, 0.0), |(apart, all), (a, b)| (apart + (a - b).powi(2), all + a * a))
    };
    let add = |a: (f64, f64), b: (f64, f64)| (a.0 + b.0, a.1 + b.1);
    let (apart, all) = (0..rows).into_par_iter().map(distances).reduce(|| (0.0, 0.0), add);
    all.is_finite() && apart.sqrt() <= matrix.step() * OF_ONE_BIT * all.sqrt()
}

fn transposed(source: &FolderMatrix) -> Vec<f32> {
    let (rows, columns) = source.sizes;
    let mut values = vec![0.0; rows * columns];
    source.read(0, &mut values);
    (0..rows * columns).map(|index| values[index % rows * columns + index / rows]).collect()
}
