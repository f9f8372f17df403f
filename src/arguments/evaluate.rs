//! What is done with a trained model.

use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{Args, ValueEnum};
use frostline_runtime::run::{EvalFiles, EvalSettings, MergeTypes};
use frostline_schemas::model::Dtype;

use super::compute::ComputeArguments;
use super::rows::RowArguments;
use super::train::DEFAULTS;
use super::values::at_least_one;

/// Flags of `frostline eval`.
#[derive(Args)]
pub(crate) struct EvalArguments {
    #[command(flatten, next_help_heading = "Files")]
    files: EvalFileArguments,
    #[command(flatten, next_help_heading = "Examples")]
    rows: EvalRows,
    #[command(flatten, next_help_heading = "Running the model")]
    compute: ComputeArguments,
}

/// What is read.
#[derive(Args)]
struct EvalFileArguments {
    /// Model folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// A run whose trained tensors take the place of the model's.
    #[arg(long, value_name = "RUN")]
    run: Option<PathBuf>,
    /// Examples: JSONL, a JSON array, Parquet or Arrow, also compressed by gzip or zstd.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
}

/// How examples are taken.
#[derive(Args)]
struct EvalRows {
    /// Rows computed at a time.
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.batch_size, value_parser = at_least_one)]
    batch_size: usize,
    #[command(flatten)]
    reading: RowArguments,
}

/// Flags of `frostline merge`.
#[derive(Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct MergeArguments {
    /// The run folder.
    #[arg(help_heading = Resettable::Reset)]
    pub run: PathBuf,
    /// The model folder to make.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The model that training began from [default: where it lay then].
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// The types of the weights that are written.
    #[arg(long, value_enum, default_value_t = TypeName::Exact)]
    dtype: TypeName,
}

#[derive(Clone, Copy, ValueEnum)]
enum TypeName {
    /// Trained tensors in f32, as they were trained; all others as in the model.
    Exact,
    /// All as in the model; trained tensors are rounded.
    Source,
    F32,
    Bf16,
    F16,
}

impl EvalArguments {
    /// The files to evaluate with.
    pub(crate) fn files(&self) -> EvalFiles {
        let EvalFileArguments { model, run, data } = &self.files;
        EvalFiles { model: model.clone(), run: run.clone(), data: data.clone(), rows: self.rows.reading.settings() }
    }

    /// The runtime's settings.
    pub(crate) fn settings(&self) -> EvalSettings {
        let ComputeArguments { device, threads } = self.compute;
        EvalSettings { batch_size: self.rows.batch_size, device, threads }
    }
}

impl MergeArguments {
    /// The types of the weights that are written.
    pub(crate) fn types(&self) -> MergeTypes {
        match self.dtype {
            TypeName::Exact => MergeTypes::Exact,
            TypeName::Source => MergeTypes::Source,
            TypeName::F32 => MergeTypes::All(Dtype::F32),
            TypeName::Bf16 => MergeTypes::All(Dtype::BF16),
            TypeName::F16 => MergeTypes::All(Dtype::F16),
        }
    }
}
