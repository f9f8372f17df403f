//! One module a command.

#[cfg(feature = "train")]
pub(crate) mod cache;
pub(crate) mod check;
#[cfg(all(feature = "plan", feature = "train"))]
pub(crate) mod compare;
#[cfg(feature = "train")]
pub(crate) mod eval;
#[cfg(feature = "plan")]
pub(crate) mod layers;
#[cfg(feature = "train")]
pub(crate) mod merge;
#[cfg(feature = "plan")]
pub(crate) mod plan;
#[cfg(feature = "plan")]
mod planning;
#[cfg(all(feature = "plan", feature = "train"))]
pub(crate) mod quickstart;
#[cfg(any(feature = "plan", feature = "train"))]
pub(crate) mod rows;
pub(crate) mod show;
#[cfg(feature = "train")]
pub(crate) mod train;
