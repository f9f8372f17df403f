//! Which tensors are trained, by which strategy, and what a step then costs.

mod best_layers;
mod cost;
mod sample;
pub mod scope;
mod scores;
mod shard;
mod strategy;

pub use self::best_layers::best_layers;
pub use self::cost::{Cost, CostTable, ROWS_PER_STEP, StepShape};
pub use self::sample::{draw, resamples, sample};
pub use self::scores::{ScoreOrigin, Scores, Ties};
pub use self::shard::{NotAShard, Shard};
pub use self::strategy::{SPELLINGS, Strategy, StrategyError};
