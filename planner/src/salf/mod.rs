//! SALF, re-derived: semantic basis, deviations, gains, and the frost line that they decide; and what else hidden states
//! say of layers, to be seen beside it.

pub(crate) mod basis;
mod cka;
pub(crate) mod deviation;
pub(crate) mod example_traces;
pub(crate) mod frost_line;
mod gain;
pub(crate) mod gram;
pub(crate) mod measured;
pub(crate) mod signals;
pub(crate) mod stability;
pub(crate) mod states;
mod variability;
