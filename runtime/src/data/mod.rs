//! Rows side by side in batches, and the order in which they are taken.

mod batch;

pub use self::batch::*;
