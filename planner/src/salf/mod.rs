//! SALF, re-derived: semantic basis, deviations, gains, and the frost line that they decide.

pub(crate) mod basis;
pub(crate) mod deviation;
pub(crate) mod example_traces;
pub(crate) mod frost_line;
mod gain;
pub(crate) mod gram;
pub(crate) mod measured;
