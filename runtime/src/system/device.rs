//! The device that the arithmetic runs on.

pub use frostline_schemas::device::Device;

use crate::error::Error;

/// Opens a device.
///
/// # Errors
/// [`Error::Device`] where this build or this machine does not have it; never another device instead.
pub fn open_device(device: Device) -> Result<candle_core::Device, Error> {
    let failed = |reason: String| Error::Device { device, reason };
    match device {
        Device::Cpu => Ok(candle_core::Device::Cpu),
        Device::Cuda(_) if !cfg!(feature = "cuda") => {
            Err(failed("this build has no CUDA; build with the feature `cuda`".into()))
        }
        Device::Cuda(number) => candle_core::Device::new_cuda(number.into()).map_err(|error| failed(error.to_string())),
    }
}
