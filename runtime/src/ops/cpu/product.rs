//! Matrix products on the CPU: f32 results, weights as they lie in memory or in their file.
//!
//! A product is cut into blocks of its result's columns, which threads take one by one. A block of a 16-bit weight is
//! upcast just before it is used, so that a frozen weight never stands in memory in f32. How a sum over the shared
//! dimension is grouped depends on that dimension alone: a row of a result is the same, bit for bit, whatever rows lie
//! beside it and however many threads there are.

use std::marker::PhantomData;
use std::ops::Range;

use candle_core::{Error, Result};
use gemm::Parallelism;
use rayon::prelude::*;

use crate::ops::matrix::{Matrix, Strided, WriteMode};

/// Rows from which all threads share the packing of one product; below, each thread takes blocks of its own.
const MANY_ROWS: usize = 1024;
/// Columns of a thread's block: their weights stay in the second-level cache.
const BLOCK: usize = 256;
/// Rows of a weight that are upcast at a time where its columns are cut into blocks.
const DEPTH: usize = 1024;
/// Products of at most so many elements are summed in another order by the library,
const REORDERED: usize = 16 * 16;
/// and those of at most so many rows and columns.
const SMALL: usize = 64;

/// Where a product goes: rows of `stride` elements, of which it fills the first.
///
/// Several may lead into one slice, so that threads fill columns of it side by side.
#[derive(Clone, Copy)]
pub(crate) struct OutputRows<'a> {
    first: *mut f32,
    length: usize,
    stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: a target's elements are only used by `product`, whose callers vouch that no two threads use the same ones.
unsafe impl Send for OutputRows<'_> {}
// SAFETY: as above.
unsafe impl Sync for OutputRows<'_> {}

impl<'a> OutputRows<'a> {
    /// Rows of `stride` elements that begin at the start of `values`.
    pub(crate) fn new(values: &'a mut [f32], stride: usize) -> OutputRows<'a> {
        OutputRows { first: values.as_mut_ptr(), length: values.len(), stride, lifetime: PhantomData }
    }

    /// The same rows from element `offset` on.
    pub(crate) fn from(self, offset: usize) -> OutputRows<'a> {
        assert!(offset <= self.length);
        // SAFETY: the offset lies within the slice, as was just checked.
        OutputRows { first: unsafe { self.first.add(offset) }, length: self.length - offset, ..self }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        let end = rows.saturating_sub(1).checked_mul(self.stride).and_then(|start| start.checked_add(columns));
        let apart = rows <= 1 || self.stride >= columns;
        rows == 0 || columns == 0 || (apart && end.is_some_and(|end| end <= self.length))
    }
}

/// `target (+)= a b` with a [m, k] and b [k, n].
///
/// # Safety
/// No other thread may use the m · n elements of `target` meanwhile.
pub(crate) unsafe fn product(
    [m, n, k]: [usize; 3],
    target: OutputRows,
    a: Strided,
    b: Strided,
    into: WriteMode,
    parallelism: Parallelism,
) {
    assert!(target.holds(m, n) && a.holds(m, k) && b.holds(k, n), "a matrix product's operands are too short");
    let keep = into == WriteMode::Accumulate;
    let stride = |n: usize| n as isize;
    // SAFETY: all elements that are read or written lie within the slices, as was just checked; the caller vouches that
    // nobody else uses the target's.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            target.first,
            1,
            stride(target.stride),
            keep,
            a.values.as_ptr(),
            stride(a.column),
            stride(a.row),
            b.values.as_ptr(),
            stride(b.column),
            stride(b.row),
            if keep { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// As [`product`], by the calling thread, into rows of `stride` elements.
pub(crate) fn multiply(sizes: [usize; 3], out: &mut [f32], stride: usize, a: Strided, b: Strided, into: WriteMode) {
    // SAFETY: the target is borrowed for this call alone.
    unsafe { product(sizes, OutputRows::new(out, stride), a, b, into, Parallelism::None) };
}

/// `y (+)= x Wᵀ`: x [m, columns] → y [m, rows].
pub(crate) fn times_transposed(x: &[f32], w: &Matrix, y: &mut [f32], into: WriteMode) -> Result<()> {
    w.with(|w| {
        filled_up(x, w.columns, y, w.rows, into, |x, m, y| {
            let (x, target) = (Strided::rows(x, w.columns), OutputRows::new(y, w.rows));
            if m >= MANY_ROWS {
                let mut upcast = Vec::new();
                let w_all = w.whole(&mut upcast).transposed();
                // SAFETY: y is borrowed for this call alone.
                return unsafe { product([m, w.rows, w.columns], target, x, w_all, into, all_threads()) };
            }
            blocks(w.rows).into_par_iter().for_each_init(Vec::new, |upcast, block| {
                let part = w.block(block.clone(), 0..w.columns, upcast).transposed();
                let sizes = [m, block.len(), w.columns];
                // SAFETY: each block has columns of y of its own.
                unsafe { product(sizes, target.from(block.start), x, part, into, Parallelism::None) };
            });
        })
    })
}

/// `y (+)= x W`: x [m, rows] → y [m, columns].
pub(crate) fn times(x: &[f32], w: &Matrix, y: &mut [f32], into: WriteMode) -> Result<()> {
    w.with(|w| {
        filled_up(x, w.rows, y, w.columns, into, |x, m, y| {
            let (x, target) = (Strided::rows(x, w.rows), OutputRows::new(y, w.columns));
            let mut upcast = Vec::new();
            let w_all = (m >= MANY_ROWS).then(|| w.whole(&mut upcast));
            // Summed in steps of the same depth either way, so that a row does not depend on how many there are.
            let steps = move || (0..w.rows).step_by(DEPTH).map(move |start| start..w.rows.min(start + DEPTH));
            let into_of = move |step: &Range<usize>| if step.start == 0 { into } else { WriteMode::Accumulate };
            if let Some(w_all) = w_all {
                for step in steps() {
                    let sizes = [m, w.columns, step.len()];
                    let (x, part) = (x.from_column(step.start), w_all.from_row(step.start));
                    // SAFETY: y is borrowed for this call alone.
                    unsafe { product(sizes, target, x, part, into_of(&step), all_threads()) };
                }
                return;
            }
            blocks(w.columns).into_par_iter().for_each_init(Vec::new, |upcast, block| {
                for step in steps() {
                    let part = w.block(step.clone(), block.clone(), upcast);
                    let sizes = [m, block.len(), step.len()];
                    let (target, x) = (target.from(block.start), x.from_column(step.start));
                    // SAFETY: each block has columns of y of its own.
                    unsafe { product(sizes, target, x, part, into_of(&step), Parallelism::None) };
                }
            });
        })
    })
}

/// `w (+)= aᵀ b`: a [m, rows], b [m, columns] → w [rows, columns].
pub(crate) fn outer(a: &[f32], rows: usize, b: &[f32], columns: usize, w: &mut [f32], into: WriteMode) {
    let m = a.len() / rows.max(1);
    let (a, b, target) = (Strided::rows(a, rows).transposed(), Strided::rows(b, columns), OutputRows::new(w, columns));
    if m >= MANY_ROWS {
        // SAFETY: w is borrowed for this call alone.
        return unsafe { product([rows, columns, m], target, a, b, into, all_threads()) };
    }
    blocks(rows).into_par_iter().for_each(|block| {
        let a = a.from_row(block.start);
        // SAFETY: each block has rows of w of its own.
        unsafe {
            product([block.len(), columns, m], target.from(block.start * columns), a, b, into, Parallelism::None)
        };
    });
}

fn all_threads() -> Parallelism {
    match rayon::current_num_threads() {
        1 => Parallelism::None,
        threads => Parallelism::Rayon(threads),
    }
}

/// Cuts `count` columns into about equal blocks, as many for each thread; none of several is narrow.
fn blocks(count: usize) -> Vec<Range<usize>> {
    const ROUND: usize = 16;
    let threads = rayon::current_num_threads();
    let parts = (threads * count.div_ceil(threads * BLOCK)).min(count / (SMALL + ROUND)).max(1);
    let start = |part: usize| if part == parts { count } else { count * part / parts / ROUND * ROUND };
    (0..parts).map(|part| start(part)..start(part + 1)).collect()
}

/// Runs `f` on x [m, inputs] and y [m, outputs], with rows of zeros added where the product would be so small that the
/// library sums it in another order.
fn filled_up(
    x: &[f32],
    inputs: usize,
    y: &mut [f32],
    outputs: usize,
    into: WriteMode,
    f: impl FnOnce(&[f32], usize, &mut [f32]),
) -> Result<()> {
    if inputs == 0 || outputs == 0 || y.is_empty() {
        return Ok(());
    }
    let m = y.len() / outputs;
    if x.len() != m * inputs {
        return Err(Error::Msg(format!("a product of {} elements in rows of {inputs} cannot have {m} rows", x.len())));
    }
    let narrowest = blocks(outputs).iter().map(Range::len).min().unwrap_or(outputs);
    let least = if narrowest <= SMALL { (REORDERED / narrowest).max(SMALL) + 1 } else { REORDERED / narrowest + 1 };
    if m >= least {
        f(x, m, y);
        return Ok(());
    }
    let mut more_x = x.to_vec();
    more_x.resize(least * inputs, 0.0);
    let mut more_y = if into == WriteMode::Accumulate { y.to_vec() } else { Vec::new() };
    more_y.resize(least * outputs, 0.0);
    f(&more_x, least, &mut more_y);
    y.copy_from_slice(&more_y[..y.len()]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;
    use frostline_schemas::model::TensorView;

    use super::*;

    fn values(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// The same row gives the same bits in every company.
    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        for (rows, columns) in [(40, 24), (130, 700), (2300, 64), (1, 600), (700, 65), (9, 1500)] {
            let w = Tensor::from_vec(values(rows * columns, 1), (rows, columns), &candle_core::Device::Cpu).unwrap();
            let w = Matrix::Tensor(&w);
            let x = values(1100 * columns.max(rows), 2);
            let first = |m: usize| {
                let (mut y, mut z) = (vec![0.0; m * rows], vec![0.0; m * columns]);
                times_transposed(&x[..m * columns], &w, &mut y, WriteMode::Overwrite).unwrap();
                times(&x[..m * rows], &w, &mut z, WriteMode::Overwrite).unwrap();
                (y[..rows].to_vec(), z[..columns].to_vec())
            };
            let alone = first(1);
            for m in [2, 7, 60, 70, 1023, 1100] {
                assert!(first(m) == alone, "{rows} × {columns}, {m} rows");
            }
        }
    }

    #[test]
    fn mapped_weights_are_widened() {
        let (rows, columns, m) = (70, 33, 9);
        let halves: Vec<half::bf16> = values(rows * columns, 3).into_iter().map(half::bf16::from_f32).collect();
        let bytes: Vec<u8> = halves.iter().flat_map(|value| value.to_le_bytes()).collect();
        let upcast: Vec<f32> = halves.iter().map(|value| value.to_f32()).collect();
        let upcast = Tensor::from_vec(upcast, (rows, columns), &candle_core::Device::Cpu).unwrap();
        let shape = [rows, columns];
        let view = TensorView { dtype: frostline_schemas::model::Dtype::BF16, shape: &shape, bytes: &bytes };
        let x = values(m * rows.max(columns), 4);
        let results = |w: Matrix| {
            let (mut y, mut z) = (vec![1.0; m * rows], vec![1.0; m * columns]);
            times_transposed(&x[..m * columns], &w, &mut y, WriteMode::Accumulate).unwrap();
            times(&x[..m * rows], &w, &mut z, WriteMode::Accumulate).unwrap();
            (y, z)
        };
        assert!(results(Matrix::Mapped(view)) == results(Matrix::Tensor(&upcast)));
    }
}
