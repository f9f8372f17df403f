//! From hidden states to deviations: how far each latent space is from meaning the target.

use std::path::Path;

use frostline_schemas::data::Example;

use super::basis::Basis;
use crate::engine::BatchTraces;
use crate::error::{Error, Result};

/// The format of deviations, stored with traces: raised by hand whenever other code gives other numbers.
pub(crate) const FORMAT: u64 = 1;

/// 1 − cos(a, b), in f64. Where one of them is zero there is no direction, and the deviation is 1.
pub(crate) fn deviation(hidden: &[f32], basis: &[f64]) -> f64 {
    let (mut dot, mut left, mut right) = (0.0, 0.0, 0.0);
    for (&h, &s) in hidden.iter().zip(basis) {
        let h = f64::from(h);
        dot += h * s;
        left += h * h;
        right += s * s;
    }
    let norms = (left * right).sqrt();
    if norms > 0.0 { 1.0 - dot / norms } else { 1.0 }
}

/// An example's trace: for each latent space, the mean deviation over its targets.
///
/// `first` is the index of the example's first target among the traces' positions; `data`, where the example came from,
/// is for messages.
pub(crate) fn example_trace(
    traces: &BatchTraces,
    first: usize,
    example: &Example,
    basis: &Basis,
    data: &Path,
) -> Result<Vec<f64>> {
    let mut trace = vec![0.0; traces.spaces];
    for (offset, target) in example.targets.iter().enumerate() {
        let row = basis.row(target.token);
        let row = row.filter(|row| row.len() == traces.hidden).ok_or_else(|| Error::Example {
            path: data.into(),
            line: example.line,
            reason: format!("token {} has no row of width {} in the semantic basis", target.token, traces.hidden),
        })?;
        for (space, mean) in trace.iter_mut().enumerate() {
            let hidden = traces.hidden_state(space, first + offset);
            let deviation = deviation(hidden, row);
            if !deviation.is_finite() || hidden.iter().any(|x| !x.is_finite()) {
                let (path, line) = (data.into(), example.line);
                return Err(Error::NotFinite { path, line, space, position: target.position });
            }
            *mean += deviation / example.targets.len() as f64;
        }
    }
    Ok(trace)
}

/// Mean and standard deviation (of the examples, not of a larger population) at each latent space.
pub(crate) fn mean_and_spread(traces: &[&[f64]]) -> Vec<(f64, f64)> {
    let spaces = traces.first().map_or(0, |trace| trace.len());
    let count = traces.len() as f64;
    let at = |space: usize| traces.iter().map(move |trace| trace[space]);
    (0..spaces)
        .map(|space| {
            let mean = at(space).sum::<f64>() / count;
            let variance = at(space).map(|d| (d - mean).powi(2)).sum::<f64>() / count;
            (mean, variance.sqrt())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviation_is_one_minus_the_cosine() {
        assert_eq!(deviation(&[2.0, 0.0], &[5.0, 0.0]), 0.0);
        assert_eq!(deviation(&[1.0, 0.0], &[0.0, 3.0]), 1.0);
        assert_eq!(deviation(&[1.0, 0.0], &[-1.0, 0.0]), 2.0);
        // cos = 3/5.
        assert!((deviation(&[3.0, 4.0], &[1.0, 0.0]) - 0.4).abs() < 1e-12);
        assert_eq!(deviation(&[0.0, 0.0], &[1.0, 0.0]), 1.0);
    }

    #[test]
    fn means_and_spreads() {
        let traces: [&[f64]; 2] = [&[0.5, 1.0], &[1.5, 1.0]];
        assert_eq!(mean_and_spread(&traces), [(1.0, 0.5), (1.0, 0.0)]);
    }
}
