//! The machine: devices, threads, memory.

pub mod allocator;
pub mod device;
