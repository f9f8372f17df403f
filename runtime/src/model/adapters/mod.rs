//! Low-rank adapters beside frozen linear layers (LoRA; Hu et al., arXiv 2106.09685):
//! `y = x Wᵀ + b + (alpha / rank) · (x Aᵀ) Bᵀ`, of which A and B are trained.

mod compute;
pub(crate) mod peft;
mod spec;

pub use self::compute::initialise;
pub use self::spec::{Adapter, beside, target_names};
