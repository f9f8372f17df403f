//! Rows side by side in batches, and the order in which they are taken.

mod batch;
mod sampler;

pub use self::batch::{Batch, MAX_SIZE, check_size};
pub use self::sampler::{Sampler, steps_of_epochs};
