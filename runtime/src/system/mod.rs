//! The machine: devices, threads, memory.

mod allocator;
mod device;
mod memory;
mod threads;

pub use self::allocator::{CachingAllocator, ReuseBuffers};
pub use self::device::{Device, open_device};
pub use self::memory::peak_bytes;
pub(crate) use self::memory::reset_peak;
pub use self::threads::on_threads;
