//! Strategies that do not run the model: fixed choices of layers, and the spectrum of the weights.

pub(crate) mod rule;
mod spectrum;
