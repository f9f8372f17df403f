//! What commands print for people.

#[cfg(all(feature = "plan", feature = "train"))]
pub(crate) mod arms;
#[cfg(all(feature = "plan", feature = "train"))]
pub(crate) mod command_line;
#[cfg(all(feature = "plan", feature = "train"))]
pub(crate) mod comparison;
#[cfg(feature = "train")]
pub(crate) mod evaluation;
#[cfg(all(feature = "plan", feature = "train"))]
pub(crate) mod picture;
pub(crate) mod plan;
#[cfg(any(feature = "plan", feature = "train"))]
pub(crate) mod rows;
mod table;
pub(crate) mod units;
