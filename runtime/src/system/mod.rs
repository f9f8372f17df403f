//! The machine: devices, threads, memory.

pub mod allocator;
pub mod device;
pub mod memory;
pub mod threads;
