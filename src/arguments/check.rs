//! Looking at a plan.

use std::path::PathBuf;

use clap::Args;
use clap::builder::Resettable;

/// Flags of `frostline show`.
#[derive(Args)]
pub(crate) struct ShowArguments {
    /// The plan.
    pub plan: PathBuf,
}

/// Flags of `frostline check`.
#[derive(Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct CheckArguments {
    /// The plan.
    #[arg(help_heading = Resettable::Reset)]
    pub plan: PathBuf,
    /// The model folder that it must fit.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
}
