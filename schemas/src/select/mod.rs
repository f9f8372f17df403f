//! Which tensors are trained, by which strategy, and what a step then costs.

mod cost;
mod sample;
pub mod scope;
mod scores;
mod strategy;

pub use self::cost::{Cost, CostTable, ROWS_PER_STEP, StepShape};
pub use self::sample::sample;
pub use self::scores::{ScoreOrigin, Scores, Ties};
pub use self::strategy::{SPELLINGS, Strategy, StrategyError};
