//! Low-rank adapters beside frozen linear layers (LoRA; Hu et al., arXiv 2106.09685):
//! `y = x Wᵀ + b + (alpha / rank) · (x Aᵀ) Bᵀ`, of which A and B are trained.

mod compute;
pub(crate) mod peft;
mod spec;

pub(super) use self::compute::initialise;
pub(super) use self::spec::beside;
pub use self::spec::{Adapter, target_names};
