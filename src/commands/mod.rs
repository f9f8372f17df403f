//! One module a command.

#[cfg(feature = "train")]
pub mod cache;
pub mod check;
#[cfg(all(feature = "plan", feature = "train"))]
pub mod compare;
#[cfg(feature = "train")]
pub mod eval;
#[cfg(feature = "plan")]
pub mod layers;
#[cfg(feature = "train")]
pub mod merge;
#[cfg(feature = "plan")]
pub mod plan;
#[cfg(all(feature = "plan", feature = "train"))]
pub mod quickstart;
pub mod show;
#[cfg(feature = "train")]
pub mod train;
