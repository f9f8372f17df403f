//! What commands print for people.

#[cfg(all(feature = "plan", feature = "train"))]
pub(crate) mod command_line;
#[cfg(all(feature = "plan", feature = "train"))]
pub(crate) mod comparison;
#[cfg(feature = "train")]
pub(crate) mod evaluation;
pub(crate) mod plan;
mod table;
pub(crate) mod units;
