//! What commands print for people.

#[cfg(all(feature = "plan", feature = "train"))]
pub mod comparison;
pub mod plan;
