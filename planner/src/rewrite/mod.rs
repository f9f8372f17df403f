//! Rewrites graphs: lowers fused operators, finds the latent spaces, and keeps of a graph only what the traces need.

pub mod export;
mod last_layer;
pub mod latent;
pub mod lower;
pub mod prune_embedding;
pub mod trace_outputs;
