//! What commands print for people.

#[cfg(all(feature = "plan", feature = "train"))]
pub mod command_line;
#[cfg(all(feature = "plan", feature = "train"))]
pub mod comparison;
#[cfg(feature = "train")]
pub mod evaluation;
pub mod plan;
mod table;
pub mod units;
