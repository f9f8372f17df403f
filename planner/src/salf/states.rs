//! The examples' states in one latent space, for what looks at many of them together.
//!
//! An example has one state in each space: the one after the final norm at its first target, where a prompt has been read
//! and nothing of the answer. Of all but the first 256 examples none are kept, so memory is bounded: 256·(L + 1)·hidden
//! numbers in f32.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

use crate::batch::rounds;
use crate::engine::BatchTraces;

/// The format of states, stored with traces: raised by hand whenever others are kept.
pub(crate) const FORMAT: u64 = 1;
/// States whose distance from their mean is, squared and averaged, at most this share of their own squares are the same: what
/// is left is rounding in f32.
const SAME: f64 = 1e-10;

/// Whether an example's states are kept, by its place in the order drawn.
pub(crate) fn are_kept(example: usize) -> bool {
    example < rounds::MOST
}

/// [spaces, hidden]: the states at one position of a batch.
pub(crate) fn at(traces: &BatchTraces, position: usize) -> Vec<f32> {
    (0..traces.spaces).flat_map(|space| traces.hidden_state(space, position)).copied().collect()
}

/// The inner products of n examples' states in one latent space, taken from their mean: a symmetric matrix [n, n] that says
/// all there is to say about the states but for a rotation.
pub(super) struct Centred(Mat<f64>);

impl Centred {
    /// Of the states [n, hidden] of a space; `None` where they are the same for all examples.
    pub(super) fn new(states: &[&[f32]]) -> Option<Centred> {
        let (count, hidden) = (states.len(), states.first()?.len());
        let mean: Vec<f64> = (0..hidden)
            .map(|element| states.iter().map(|state| f64::from(state[element])).sum::<f64>() / count as f64)
            .collect();
        let centred: Vec<f64> =
            states.iter().flat_map(|state| state.iter().zip(&mean).map(|(&x, mean)| f64::from(x) - mean)).collect();
        let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
        let all = squares(&mut states.iter().flat_map(|state| state.iter()).map(|&x| f64::from(x)));
        if squares(&mut centred.iter().copied()) <= SAME * all {
            return None;
        }
        let centred = MatRef::from_row_major_slice(&centred, count, hidden);
        let mut products = Mat::zeros(count, count);
        // On one thread, so that it is the same to the last bit on any number of them.
        matmul(products.as_mut(), Accum::Replace, centred, centred.transpose(), 1.0, Par::Seq);
        Some(Centred(products))
    }

    /// How many examples there are.
    pub(super) fn count(&self) -> usize {
        self.0.nrows()
    }

    /// The inner product of two examples' states, each taken from the mean.
    pub(super) fn product(&self, one: usize, other: usize) -> f64 {
        self.0[(one, other)]
    }

    /// The sum of products of both matrices' elements.
    pub(super) fn dot(&self, other: &Centred) -> f64 {
        let pairs = (0..self.count()).flat_map(|column| self.0.col(column).iter().zip(other.0.col(column).iter()));
        pairs.map(|(a, b)| a * b).sum()
    }
}
