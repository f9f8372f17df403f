//! The semantic basis: the vector of latent space that means one token alone.
//!
//! With the LM head W of shape [V, D] (logits = h Wᵀ) token y's is s_y = e_y W⁺, row y of W (WᵀW)⁻¹ (arXiv 2401.16184):
//! one D×D Gram matrix in f64, one Cholesky factor, one solve for each target token. Never the V×D pseudo-inverse.

use std::collections::{BTreeMap, BTreeSet};

use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, Side};
use frostline_schemas::model::TensorView;

use super::gram::{Gram, GramCache};
use crate::error::{Error, Result};

/// The ridge starts at this share of the Gram matrix's mean diagonal element, and grows tenfold.
const FIRST_RIDGE: f64 = 1e-12;
/// Ridges tried; the last is as large as the diagonal itself.
const RIDGES: usize = 13;

/// Rows of the semantic basis.
pub(crate) struct Basis {
    rows: BTreeMap<u32, Vec<f64>>,
    /// What was added to the Gram matrix's diagonal; 0 where it could be factored as it is.
    pub ridge: f64,
}

impl Basis {
    /// The rows for the tokens of each round of a sample, from an LM head [V, D] in f32, bf16 or f16; one with V < D needs a
    /// ridge. A row is the same to the last bit whatever rounds follow its token's first. `cache` is where the Gram matrix
    /// is kept, `name` is for messages.
    pub(crate) fn new(
        name: &str,
        head: TensorView,
        rounds: impl IntoIterator<Item: IntoIterator<Item = u32>>,
        cache: Option<&GramCache>,
    ) -> Result<Basis> {
        let bad = |reason: String| Error::Basis { tensor: name.into(), reason };
        let &[rows, width] = head.shape else {
            return Err(bad(format!("an LM head has two dimensions, this one has shape {:?}", head.shape)));
        };
        if width == 0 || rows == 0 {
            return Err(bad(format!("an LM head of shape {:?} holds nothing", head.shape)));
        }
        let gram = Gram::cached_or_computed(head, rows, width, cache);
        let gram = gram.ok_or_else(|| bad(format!("cannot read {:?}", head.dtype)))?;
        if !gram.is_finite() {
            return Err(bad("it holds infinities or NaNs".into()));
        }
        let (factor, ridge) = factor(gram.0).ok_or_else(|| bad("its Gram matrix has no Cholesky factor".into()))?;
        let mut solved = BTreeMap::new();
        for tokens in rounds {
            let new: BTreeSet<u32> = tokens.into_iter().filter(|token| !solved.contains_key(token)).collect();
            solved.extend(solve(&factor, head, rows, width, &new).map_err(bad)?);
        }
        Ok(Basis { rows: solved, ridge })
    }

    /// The vector of a token, if it was asked for.
    pub(crate) fn row(&self, token: u32) -> Option<&[f64]> {
        self.rows.get(&token).map(Vec::as_slice)
    }
}

/// The Cholesky factor of the Gram matrix plus the smallest ridge that gives one, and that ridge.
fn factor(mut gram: Mat<f64>) -> Option<(Llt<f64>, f64)> {
    let width = gram.nrows();
    if let Ok(factor) = gram.llt(Side::Lower) {
        return Some((factor, 0.0));
    }
    let diagonal: Vec<f64> = (0..width).map(|i| gram[(i, i)]).collect();
    let mut ridge = FIRST_RIDGE * diagonal.iter().sum::<f64>() / width as f64;
    for _ in 0..RIDGES {
        for (i, element) in diagonal.iter().enumerate() {
            gram[(i, i)] = element + ridge;
        }
        if let Ok(factor) = gram.llt(Side::Lower) {
            tracing::info!(ridge, "the LM head's Gram matrix needed a ridge");
            return Some((factor, ridge));
        }
        ridge *= 10.0;
    }
    None
}

/// Solves for some tokens at once.
fn solve(
    factor: &Llt<f64>,
    head: TensorView,
    rows: usize,
    width: usize,
    tokens: &BTreeSet<u32>,
) -> Result<Vec<(u32, Vec<f64>)>, String> {
    let mut right = Mat::zeros(width, tokens.len());
    let mut row = vec![0.0; width];
    for (column, &token) in tokens.iter().enumerate() {
        if token as usize >= rows {
            return Err(format!("token {token} is outside its {rows} rows"));
        }
        head.read_f32(token as usize * width, &mut row);
        row.iter().enumerate().for_each(|(i, &x)| right[(i, column)] = f64::from(x));
    }
    factor.solve_in_place(right.as_mut());
    let column = |(column, &token): (usize, &u32)| (token, (0..width).map(|i| right[(i, column)]).collect());
    Ok(tokens.iter().enumerate().map(column).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use frostline_schemas::model::Dtype;

    fn basis(values: &[f32], shape: [usize; 2], tokens: &[u32]) -> Result<Basis> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView { dtype: Dtype::F32, shape: &shape, bytes: &bytes };
        Basis::new("head", view, tokens.chunks(2).map(|round| round.iter().copied()), None)
    }

    #[test]
    fn rows_are_those_of_the_transposed_pseudo_inverse() {
        // W = [[1, 0], [0, 1], [1, 1]]: WᵀW = [[2, 1], [1, 2]], its inverse 1/3 [[2, −1], [−1, 2]].
        let basis = basis(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], [3, 2], &[2, 0, 2]).unwrap();
        assert_eq!(basis.ridge, 0.0);
        let close = |row: Option<&[f64]>, expected: [f64; 2]| {
            assert!(row.unwrap().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12));
        };
        close(basis.row(0), [2.0 / 3.0, -1.0 / 3.0]);
        close(basis.row(2), [1.0 / 3.0, 1.0 / 3.0]);
        assert!(basis.row(1).is_none());
    }

    #[test]
    fn a_head_of_lower_rank_gets_the_smallest_ridge() {
        let basis = basis(&[1.0, 1.0, 2.0, 2.0, 3.0, 3.0], [3, 2], &[0]).unwrap();
        // trace / D = 14.
        assert!(basis.ridge >= 14e-12 && basis.ridge < 14e-9, "{}", basis.ridge);
        let row = basis.row(0).unwrap();
        // The pseudo-inverse's row: 1/(2·14) in both dimensions.
        assert!(row.iter().all(|x| (x - 1.0 / 28.0).abs() < 1e-4), "{row:?}");
    }

    #[test]
    fn a_head_with_fewer_rows_than_columns_gets_the_smallest_ridge() {
        let basis = basis(&[1.0, 2.0], [1, 2], &[0]).unwrap();
        assert!(basis.ridge > 0.0 && basis.ridge < 1e-9, "{}", basis.ridge);
        // The pseudo-inverse's row: w / |w|².
        let row = basis.row(0).unwrap();
        assert!((row[0] - 0.2).abs() < 1e-3 && (row[1] - 0.4).abs() < 1e-3, "{row:?}");
    }

    #[test]
    fn bad_heads_are_errors() {
        assert!(basis(&[1.0, f32::NAN], [2, 1], &[0]).is_err());
        assert!(basis(&[], [0, 2], &[]).is_err());
        let outside = basis(&[1.0, 2.0], [2, 1], &[2]).err().map(|error| error.to_string());
        assert!(outside.is_some_and(|text| text.contains("token 2 is outside its 2 rows")));
    }
}
