//! The threads that the arithmetic runs on.

use crate::error::Error;
use crate::system::device::Device;

/// Runs `f` on a pool of `threads` threads, or on all that the machine has.
///
/// Matrix products and the kernels of this crate use the pool in which they are called.
pub fn on_threads<R: Send>(threads: Option<usize>, f: impl FnOnce() -> R + Send) -> Result<R, Error> {
    let Some(threads) = threads else { return Ok(f()) };
    if threads == 0 {
        return Err(Error::Setting { field: "threads", value: "0".into(), reason: "at least one is needed" });
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| Error::Device { device: Device::Cpu, reason: error.to_string() })?;
    Ok(pool.install(f))
}
