//! Which tensors are trained, by which strategy, and what a step then costs.

mod cost;
mod sample;
pub mod scope;
mod strategy;

pub use self::cost::{Cost, CostTable, ROWS_PER_STEP, StepShape};
pub use self::sample::sample;
pub use self::strategy::{SPELLINGS, Strategy, StrategyError};
