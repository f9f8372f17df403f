//! Graph rewrites: fused operators written out, latent spaces found, and of the graph only what traces need.

pub mod last_layer;
pub mod latent;
pub mod lower;
pub mod prune_embedding;
pub mod trace_outputs;
