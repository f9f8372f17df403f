//! Which tensors a frost line leaves to train.

use crate::decoder::{DecoderConfig, LayerSpec, NormSpec};

/// Names of the tensors above a frost line, from the input up: layers `frost_line + 1 … L`, then the final norm.
/// Embeddings and head stay frozen.
pub fn tensors(config: &DecoderConfig, frost_line: usize) -> Vec<String> {
    let layers = config.layers.iter().skip(frost_line).flat_map(LayerSpec::tensors);
    let final_norm: Vec<_> = NormSpec::tensors(&config.final_norm).collect();
    layers.chain(final_norm).map(|tensor| tensor.name.clone()).collect()
}
