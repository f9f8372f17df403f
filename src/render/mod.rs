//! What commands print for people.

#[cfg(all(feature = "plan", feature = "train"))]
pub(crate) mod arms;
mod bar;
#[cfg(all(feature = "plan", feature = "train"))]
pub(crate) mod command_line;
#[cfg(all(feature = "plan", feature = "train"))]
pub(crate) mod comparison;
#[cfg(feature = "train")]
pub(crate) mod evaluation;
mod gradients;
mod meaning;
#[cfg(all(feature = "plan", feature = "train"))]
pub(crate) mod picture;
pub(crate) mod plan;
mod probes;
#[cfg(any(feature = "plan", feature = "train"))]
pub(crate) mod rows;
mod signals;
mod table;
pub(crate) mod units;
