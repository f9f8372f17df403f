//! Sizes: those of whole models, and those of matrices.

use frostline_schemas::model::DecoderConfig;

use crate::rewrite::latent::LatentSpaces;

/// Rows and columns of a matrix; a vector has one row.
pub(super) type MatrixSizes = (usize, usize);

/// A shape as a matrix, dimensions of 1 left out; `None` for three dimensions and more.
pub(super) fn matrix(shape: &[usize]) -> Option<MatrixSizes> {
    let large: Vec<usize> = shape.iter().copied().filter(|&n| n != 1).collect();
    match large.as_slice() {
        [] => Some((1, 1)),
        [columns] => Some((1, *columns)),
        [rows, columns] => Some((*rows, *columns)),
        _ => None,
    }
}

/// Refuses an export that has another number of layers or tokens, or another hidden size, than config.json says.
pub(super) fn check(spaces: &LatentSpaces, config: &DecoderConfig) -> Result<(), String> {
    let sizes = [
        ("layers", spaces.layer_count(), config.layers.len()),
        ("rows in its LM head", spaces.head.vocabulary, config.vocabulary),
        ("as its hidden size", spaces.head.hidden, config.hidden),
    ];
    match sizes.iter().find(|(_, found, expected)| found != expected) {
        Some((what, found, expected)) => Err(format!("it has {found} {what}, config.json says {expected}")),
        None => Ok(()),
    }
}
