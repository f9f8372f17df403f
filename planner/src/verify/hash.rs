//! A hash of a matrix's numbers and where they stand, the same for a matrix and for what a file holds transposed.

use rayon::prelude::*;

use super::sizes::MatrixSizes;

/// Elements hashed at a time.
const CHUNK: usize = 1 << 16;

/// Whether a matrix is hashed as it is or as its transpose.
#[derive(Clone, Copy)]
pub(super) enum Layout {
    Same,
    Transposed,
}

/// A hash of a matrix's numbers and their rows and columns, in whatever order they come: that of a matrix is the
/// [`Layout::Transposed`] one of its transpose.
pub(super) fn hash(
    sizes: MatrixSizes,
    read: impl Fn(usize, &mut [f32]) + Sync,
    layout: Layout,
    change: impl Fn(f32) -> f32 + Sync,
) -> u64 {
    let (rows, columns) = sizes;
    let elements = rows * columns;
    let (of_row, of_column) = match layout {
        Layout::Same => (ROW, COLUMN),
        Layout::Transposed => (COLUMN, ROW),
    };
    let chunk = |number: usize| {
        let start = number * CHUNK;
        let mut values = vec![0.0; CHUNK.min(elements - start)];
        read(start, &mut values);
        let (mut row, mut column) = (start / columns, start % columns);
        let mut rest = values.as_slice();
        let mut sum = 0u64;
        while !rest.is_empty() {
            let (here, later) = rest.split_at(rest.len().min(columns - column));
            let first = of_row.times(row).plus(of_column.times(column));
            sum = sum.wrapping_add(hash_of_row(here, first, of_column, &change));
            (rest, row, column) = (later, row + 1, 0);
        }
        sum
    };
    (0..elements.div_ceil(CHUNK)).into_par_iter().map(chunk).reduce(|| 0, u64::wrapping_add)
}

/// What a number's row or column adds to its hash, in two halves.
#[derive(Clone, Copy)]
struct IndexHash(u32, u32);

const ROW: IndexHash = IndexHash(0x9e37_79b9, 0x7f4a_7c15);
const COLUMN: IndexHash = IndexHash(0xd1b5_4a33, 0xd192_ed03);

impl IndexHash {
    fn times(self, n: usize) -> IndexHash {
        IndexHash(self.0.wrapping_mul(n as u32), self.1.wrapping_mul(n as u32))
    }

    fn plus(self, other: IndexHash) -> IndexHash {
        IndexHash(self.0.wrapping_add(other.0), self.1.wrapping_add(other.1))
    }
}

/// Of neighbours in a row: `first` is the first one's index hash, `step` leads from each to the next.
fn hash_of_row(values: &[f32], first: IndexHash, step: IndexHash, change: impl Fn(f32) -> f32) -> u64 {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let indices = (0..values.len()).map(|i| first.plus(step.times(i)));
            values.iter().zip(indices).map(|(&x, index)| mix(index, change(x))).fold(0, u64::wrapping_add)
        },
    )
}

/// Mixes a number's bits with its index hash, by products of 32 bits only, which compilers vectorise. Both
/// zeros count as one: 0.0 and −0.0 are the same weight.
#[inline(always)]
fn mix(index: IndexHash, value: f32) -> u64 {
    let bits = if value == 0.0 { 0 } else { value.to_bits() };
    let mixed = (bits ^ index.0).wrapping_mul(0x9e37_79b1);
    let mixed = mixed ^ mixed >> 15;
    u64::from(mixed) * u64::from((mixed ^ index.1).wrapping_add(bits))
}
