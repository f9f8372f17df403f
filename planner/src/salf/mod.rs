//! SALF, re-derived: semantic basis, deviations, gains, and the frost line that they decide.

pub mod basis;
pub mod deviation;
pub mod example_traces;
pub mod frost_line;
mod gain;
pub mod gram;
pub mod measured;
