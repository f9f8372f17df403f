//! Where the arithmetic runs: device and threads.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A device by name: `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    #[default]
    Cpu,
    /// The N-th CUDA device, from 0.
    Cuda(usize),
}

impl Device {
    /// Opens the device.
    ///
    /// # Errors
    /// [`Error::Device`] where this build or this machine does not have it; never another device instead.
    pub fn open(self) -> Result<candle_core::Device, Error> {
        match self {
            Device::Cpu => Ok(candle_core::Device::Cpu),
            Device::Cuda(_) if !cfg!(feature = "cuda") => Err(Error::Device {
                device: self.to_string(),
                reason: "this frostline was built without CUDA; build it with --features cuda".into(),
            }),
            Device::Cuda(index) => candle_core::Device::new_cuda(index)
                .map_err(|error| Error::Device { device: self.to_string(), reason: error.to_string() }),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Device, Error> {
        let unknown = || Error::Device { device: format!("`{text}`"), reason: "expected cpu, cuda or cuda:N".into() };
        match text.split_once(':') {
            None if text == "cpu" => Ok(Device::Cpu),
            None if text == "cuda" => Ok(Device::Cuda(0)),
            Some(("cuda", index)) => index.parse().map(Device::Cuda).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
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
    let pool = pool.map_err(|error| Error::Device { device: "cpu".into(), reason: error.to_string() })?;
    Ok(pool.install(f))
}
