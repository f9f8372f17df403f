//! Which weight matrices stand out against noise, as the tool Spectrum ranks them (arXiv 2406.06623).
//!
//! A matrix of noise has singular values up to the Marchenko–Pastur edge σ(1 + √β), with β the ratio of its sides, the
//! smaller one above; σ is estimated from the singular values' own interquartile range. What lies above the edge is
//! signal. Matrices of one kind (all `mlp.down_proj`, say) are ranked by signal over noise over their largest value.

use std::collections::BTreeSet;

use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::{Accum, Mat, MatRef, Par, Side};
use frostline_schemas::model::ModelFolder;
use frostline_schemas::model::{LinearSpec, NormSpec};
use frostline_schemas::select::{ScoreOrigin, Scores, Ties, scope};

use crate::error::{Error, Result};
use crate::progress::{Progress, Stage};

/// The interquartile range of a normal distribution, in standard deviations.
const QUARTILES_APART: f64 = 1.349;

/// Names of the tensors to train: of each kind of matrix the `share` that stands out most, at least one, with their
/// biases; and the final norm.
pub(super) fn tensors(folder: &ModelFolder, share: f64, progress: &dyn Progress) -> Result<Vec<String>> {
    let layers: Vec<Vec<&LinearSpec>> = folder.config.layers.iter().map(|layer| layer.linears().collect()).collect();
    let matrices = layers.first().map_or(0, Vec::len);
    progress.begin(Stage::Spectrum, layers.iter().map(Vec::len).sum::<usize>() as u64);
    let mut chosen: BTreeSet<&str> =
        NormSpec::tensors(&folder.config.final_norm).map(|spec| spec.name.as_str()).collect();
    for matrix in 0..matrices {
        let linears: Vec<&LinearSpec> = layers.iter().filter_map(|linears| linears.get(matrix).copied()).collect();
        let mut ratios = Vec::new();
        for linear in &linears {
            ratios.push((*linear, signal_to_noise(&singular_values(folder, linear)?, linear)));
            progress.advance(1);
        }
        let ratios = Scores::new(ScoreOrigin::Weights, ratios);
        // As the tool does it, rounded down; but 0.58 of 50 is 29, though not in floating point.
        let best = ((linears.len() as f64 * share + 1e-9) as usize).max(1);
        for (linear, _) in ratios.ranked(Ties::UpperFirst).into_iter().take(best) {
            chosen.extend(linear.tensors().map(|spec| spec.name.as_str()));
        }
    }
    Ok(scope::ordered(&folder.config, |name| chosen.contains(name)))
}

/// Singular values from the largest down: square roots of the eigenvalues of the smaller Gram matrix, in f64.
fn singular_values(folder: &ModelFolder, linear: &LinearSpec) -> Result<Vec<f64>> {
    let name = &linear.weight.name;
    let bad = |reason: &str| Error::Spectrum { tensor: name.clone(), reason: reason.into() };
    let &[rows, columns] = linear.weight.shape.as_slice() else { return Err(bad("it is no matrix")) };
    let values = folder.weights.load_f32(name)?;
    let values: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
    if !values.iter().all(|x| x.is_finite()) {
        return Err(bad("it holds infinities or NaNs"));
    }
    let matrix = MatRef::from_row_major_slice(&values, rows, columns);
    let (left, right) = if rows < columns { (matrix, matrix.transpose()) } else { (matrix.transpose(), matrix) };
    let mut gram = Mat::zeros(rows.min(columns), rows.min(columns));
    let (lower, whole) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
    matmul(gram.as_mut(), lower, Accum::Replace, left, whole, right, whole, 1.0, Par::rayon(0));
    let eigenvalues =
        gram.self_adjoint_eigenvalues(Side::Lower).map_err(|_| bad("its singular values do not converge"))?;
    Ok(eigenvalues.iter().rev().map(|value| value.max(0.0).sqrt()).collect())
}

/// Signal over noise over the largest singular value; infinite where nothing is noise, 0 where nothing is there.
fn signal_to_noise(singular: &[f64], linear: &LinearSpec) -> f64 {
    let sigma = (quantile(singular, 0.25) - quantile(singular, 0.75)) / QUARTILES_APART;
    let (small, large) = (linear.inputs.min(linear.outputs) as f64, linear.inputs.max(linear.outputs) as f64);
    let edge = sigma * (1.0 + (small / large).sqrt());
    let sum = |signal: bool| singular.iter().filter(|&&value| (value > edge) == signal).sum::<f64>();
    let largest = singular.first().copied().unwrap_or_default();
    if largest == 0.0 {
        return 0.0;
    }
    if sum(false) > 0.0 { sum(true) / sum(false) / largest } else { f64::INFINITY }
}

/// Between the values at either side, as far as the quantile lies between them; values fall.
fn quantile(falling: &[f64], from_above: f64) -> f64 {
    let index = from_above * falling.len().saturating_sub(1) as f64;
    let at = |index: f64| falling.get(index as usize).copied().unwrap_or_default();
    at(index.floor()) + (at(index.ceil()) - at(index.floor())) * index.fract()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::progress::Silent;

    fn llama() -> ModelFolder {
        ModelFolder::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/llama")).unwrap()
    }

    /// By `tests/cases/spectrum.py`, with torch.linalg.svdvals and torch.quantile.
    #[test]
    fn ratios_are_those_of_pytorch() {
        let folder = llama();
        let expected = [
            0.463469, 2.64439, 2.50582, 0.514182, 2.03126, 2.29174, 3.19863, 0.546819, 3.47946, 5.06969, 0.739667,
            1.56643, 2.44103, 1.5929, 0.459322, 2.08938, 4.47055, 0.366259, 2.10178, 2.10251, 2.08027, 0.366512,
            2.61229, 1.96987, 0.444778, 2.93398, 2.56287, 2.25153,
        ];
        let linears: Vec<&LinearSpec> = folder.config.layers.iter().flat_map(|layer| layer.linears()).collect();
        assert_eq!(linears.len(), expected.len());
        for (linear, expected) in linears.into_iter().zip(expected) {
            let found = signal_to_noise(&singular_values(&folder, linear).unwrap(), linear);
            assert!((found / expected - 1.0).abs() < 1e-4, "{}: {found} for {expected}", linear.weight.name);
        }
    }

    #[test]
    fn each_kind_has_its_share() {
        let folder = llama();
        for (share, of_each) in [(0.1, 1), (0.5, 2), (0.74, 2), (1.0, 4)] {
            let names = tensors(&folder, share, &Silent).unwrap();
            assert_eq!(names.len(), 7 * of_each + 1, "{share}: {names:?}");
            assert_eq!(names.iter().filter(|name| name.ends_with("mlp.up_proj.weight")).count(), of_each);
        }
    }
}
