//! Trainings by several plans from the same start, side by side.
//!
//! A comparison is fair where each [`Arm`], a plan with a method to train it by, is trained at its own best learning
//! rate and for the same steps or the same seconds. A [`Comparison`] holds back a part of the training rows, tries rates
//! for each arm, and chooses by the loss on the rows held back; rows to evaluate on are for the report alone. A
//! [`Verdict`] says which arms differ by more than the noise. Machines that share the arms write [`ShardResults`], which
//! are merged into what one machine would have found, but for its seconds. A [`ComparisonRow`] is one training at a given
//! rate.

mod arm;
mod budget;
mod comparison;
mod merge;
mod noise;
mod results;
mod row;
mod run;
mod split;
mod spread;
pub(crate) mod sweep;

pub use self::arm::{Arm, ArmMethod, ArmResult, Edge};
pub use self::budget::Budget;
pub use self::comparison::{CompareSettings, Comparison, Watcher};
pub use self::noise::Verdict;
pub use self::results::{ArmIdentity, ComparedRows, ResultsError, ResultsOrigin, ShardResults};
pub use self::row::ComparisonRow;
pub use self::run::{Point, TrainedArm};
pub use self::split::Split;
pub use self::spread::{Measure, Spread};
pub use self::sweep::Rates;
