//! Which tensors a plan leaves to train.

use std::collections::BTreeSet;

use crate::model::{DecoderConfig, LayerSpec, NormSpec};

/// Names of the tensors above a frost line, from the input up: layers `frost_line + 1 … L`, then the final norm.
/// Embeddings and head stay frozen.
pub fn tensors(config: &DecoderConfig, frost_line: usize) -> Vec<String> {
    of_layers(config, |layer| layer >= frost_line)
}

/// The same for chosen layers, counted from 0.
pub fn of_layers(config: &DecoderConfig, chosen: impl Fn(usize) -> bool) -> Vec<String> {
    let layers =
        config.layers.iter().enumerate().filter(|(index, _)| chosen(*index)).flat_map(|(_, layer)| layer.tensors());
    let final_norm: Vec<_> = NormSpec::tensors(&config.final_norm).collect();
    layers.chain(final_norm).map(|tensor| tensor.name.clone()).collect()
}

/// Names of chosen tensors, from the input up.
pub fn ordered(config: &DecoderConfig, chosen: impl Fn(&str) -> bool) -> Vec<String> {
    config.tensors().into_iter().map(|spec| &spec.name).filter(|name| chosen(name)).cloned().collect()
}

/// The layers, counted from 0, of which some tensor is among these.
pub fn layers(config: &DecoderConfig, tensors: &[String]) -> BTreeSet<usize> {
    let chosen: BTreeSet<&str> = tensors.iter().map(String::as_str).collect();
    let holds = |layer: &LayerSpec| layer.tensors().into_iter().any(|spec| chosen.contains(spec.name.as_str()));
    config.layers.iter().enumerate().filter(|(_, layer)| holds(layer)).map(|(index, _)| index).collect()
}

/// How many of the lowest layers lie below all tensors that are trained: 0 where an embedding is, L where no layer is.
pub fn frost_line(config: &DecoderConfig, tensors: &[String]) -> usize {
    let trained: BTreeSet<&str> = tensors.iter().map(String::as_str).collect();
    let embeddings = std::iter::once(&config.embedding).chain(&config.position_embedding);
    if embeddings.into_iter().any(|spec| trained.contains(spec.name.as_str())) {
        return 0;
    }
    layers(config, tensors).first().copied().unwrap_or(config.layers.len())
}
