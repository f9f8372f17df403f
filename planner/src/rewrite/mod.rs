//! Rewrites graphs: lowers fused operators, finds the latent spaces, and keeps of a graph only what the traces need.

pub(crate) mod export;
mod last_layer;
pub(crate) mod latent;
pub(crate) mod lower;
pub(crate) mod prune_embedding;
pub(crate) mod trace_outputs;
