//! Hidden-state variability ν (Xie et al. 2022, arXiv 2210.10041): how much states vary within classes against between them.
//!
//! With C classes of means μ_c, and μ the mean of these, Σ_w is the mean over classes of each one's covariance and Σ_b the
//! covariance of the means: ν = trace(Σ_w Σ_b†) / C. The smaller it is, the better a space tells the classes apart.
//!
//! Σ_b is [hidden, hidden] of rank C − 1 at most, so its pseudo-inverse is taken where it acts: with M = [μ_c − μ] it is
//! C·M (MᵀM)⁺² Mᵀ, and ν = Σ_c mean over the rows h of c of ‖(MᵀM)⁺ Mᵀ (h − μ_c)‖² / C, of which the inner products of
//! states say all.

use faer::{Mat, Side};

use super::states::Centred;

/// Eigenvalues of MᵀM at most this share of the largest count as 0.
const CUTOFF: f64 = 1e-9;
/// Squared lengths in M at most this share of the states' own squared distances from their mean count as 0: means that
/// differ by rounding do not differ.
const NO_DIFFERENCE: f64 = 1e-10;

/// ν of a space's states. `classes` are those of its examples; rows without one, and classes of one row, are left out. `None`
/// where fewer than two classes are left, or where their means are the same.
pub(super) fn variability(states: &Centred, classes: &[Option<usize>]) -> Option<f64> {
    let members = members(classes, states.count());
    let count = members.len() as f64;
    // Mᵀ M and Mᵀ (h − μ_c), from the classes' mean products.
    let means = |class: &[usize], row: usize| {
        class.iter().map(|&member| states.product(member, row)).sum::<f64>() / class.len() as f64
    };
    let of_class =
        |class: &[usize], other: &[usize]| other.iter().map(|&row| means(class, row)).sum::<f64>() / other.len() as f64;
    let mut between = Mat::from_fn(members.len(), members.len(), |a, b| of_class(&members[a], &members[b]));
    let before = between.clone();
    centre_columns(&mut between);
    between = between.transpose().to_owned();
    centre_columns(&mut between);
    let scale = (0..states.count()).map(|row| states.product(row, row)).sum::<f64>() / states.count() as f64;
    let inverse = Inverse::new(&between, NO_DIFFERENCE * scale)?;
    let of_row = |class: usize, row: usize| {
        let mut apart: Vec<f64> =
            members.iter().enumerate().map(|(other, own)| means(own, row) - before[(other, class)]).collect();
        let mean = apart.iter().sum::<f64>() / count;
        apart.iter_mut().for_each(|x| *x -= mean);
        inverse.squared_length(&apart)
    };
    let of_class = |(class, rows): (usize, &Vec<usize>)| {
        rows.iter().map(|&row| of_row(class, row)).sum::<f64>() / rows.len() as f64
    };
    Some(members.iter().enumerate().map(of_class).sum::<f64>() / count)
}

/// The rows of each class that has two or more.
fn members(classes: &[Option<usize>], rows: usize) -> Vec<Vec<usize>> {
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (row, class) in classes.iter().take(rows).enumerate().filter_map(|(row, class)| Some((row, (*class)?))) {
        members.resize_with(members.len().max(class.saturating_add(1)), Vec::new);
        members[class].push(row);
    }
    members.retain(|rows| rows.len() > 1);
    members
}

/// Takes each column's mean from its elements.
fn centre_columns(matrix: &mut Mat<f64>) {
    let rows = matrix.nrows();
    for column in 0..matrix.ncols() {
        let mean = matrix.col(column).iter().sum::<f64>() / rows as f64;
        (0..rows).for_each(|row| matrix[(row, column)] -= mean);
    }
}

/// The pseudo-inverse of a symmetric matrix.
struct Inverse {
    /// Eigenvectors, each with its eigenvalue, that are no rounding.
    eigen: Vec<(Vec<f64>, f64)>,
}

impl Inverse {
    /// `None` where no eigenvalue is above `least`.
    fn new(matrix: &Mat<f64>, least: f64) -> Option<Inverse> {
        let decomposed = matrix.self_adjoint_eigen(Side::Lower).ok()?;
        let (vectors, values) = (decomposed.U(), decomposed.S().column_vector());
        let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(*value));
        let kept = (0..matrix.nrows()).filter(|&at| values[at] > (CUTOFF * largest).max(least));
        let eigen: Vec<_> = kept.map(|at| (vectors.col(at).iter().copied().collect(), values[at])).collect();
        if eigen.is_empty() { None } else { Some(Inverse { eigen }) }
    }

    /// ‖A⁺ x‖².
    fn squared_length(&self, x: &[f64]) -> f64 {
        let along = |vector: &[f64]| vector.iter().zip(x).map(|(a, b)| a * b).sum::<f64>();
        self.eigen.iter().map(|(vector, value)| (along(vector) / value).powi(2)).sum()
    }
}
