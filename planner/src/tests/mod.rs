//! Whole exports against PyTorch's numbers, and every way in which files can be bad.

mod bad_files;
mod common;
mod deviations;
mod exports;
mod graph;
mod plan;
mod shards;
mod signals;
