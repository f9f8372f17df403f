//! Where to compute.

use clap::Args;
use frostline_schemas::device::Device;

use super::values::threads;

/// Where and with how many threads to compute.
#[derive(Args)]
pub(crate) struct ComputeArguments {
    /// cpu, or cuda:0 and so on in builds with the feature `cuda` (to plan, with --engine ort).
    #[arg(long, default_value = "cpu")]
    pub device: Device,
    /// Threads to compute with [default: all cores].
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
}
