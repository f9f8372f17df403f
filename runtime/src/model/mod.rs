//! A decoder, its parameters, and their gradients.

pub mod adapters;
pub mod coverage;
pub mod decoder;
pub mod gradients;
pub mod layer;
pub mod modules;
pub mod parameters;
pub mod scope;
