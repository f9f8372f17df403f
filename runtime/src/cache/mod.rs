//! The state at the frost line of each example, computed once and kept on disk for later epochs and later runs.
//!
//! The [store](frostline_schemas::cache) that they lie in has an entry for each [`CacheKey`], in it the states of many
//! examples to a segment. A state is found by its tokens, so data sets that share rows share their states. Nothing read is
//! trusted: what fails a check is warned of, removed and counted as missing.

mod key;
mod list;
mod segment;
mod source;
mod states;
mod writer;

pub use key::{CacheKey, StateDtype};
pub use list::{ListedStates, list};
pub use source::{CacheSettings, CacheUse};
pub(crate) use source::{CachedStates, Filling, StateSource, state};
pub use states::Cache;
pub use writer::StateWriter;
