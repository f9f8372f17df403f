//! SALF, re-derived: semantic basis, deviations, gains, and the frost line that they decide.

pub mod basis;
pub mod deviation;
pub mod frost_line;
pub mod gain;
pub mod gram;
