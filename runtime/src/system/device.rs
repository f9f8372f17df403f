//! Where the arithmetic runs: device and threads.

pub use frostline_schemas::device::Device;

use crate::error::Error;

/// Opens a device.
///
/// # Errors
/// [`Error::Device`] where this build or this machine does not have it; never another device instead.
pub fn open(device: Device) -> Result<candle_core::Device, Error> {
    let failed = |reason: String| Error::Device { device, reason };
    match device {
        Device::Cpu => Ok(candle_core::Device::Cpu),
        Device::Cuda(_) if !cfg!(feature = "cuda") => {
            Err(failed("this frostline was built without CUDA; build it with --features cuda".into()))
        }
        Device::Cuda(number) => candle_core::Device::new_cuda(number.into()).map_err(|error| failed(error.to_string())),
    }
}

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
