//! One module a command.

pub mod check;
#[cfg(feature = "train")]
pub mod eval;
#[cfg(feature = "plan")]
pub mod layers;
#[cfg(feature = "train")]
pub mod merge;
#[cfg(feature = "plan")]
pub mod plan;
#[cfg(all(feature = "plan", feature = "train"))]
pub mod quickstart;
pub mod show;
#[cfg(feature = "train")]
pub mod train;

#[cfg(any(feature = "plan", feature = "train"))]
use std::path::Path;

#[cfg(any(feature = "plan", feature = "train"))]
use frostline_schemas::{
    examples::{self, Examples, Reading},
    folder::ModelFolder,
};

/// Reads examples for a model; says on stderr if any hold nothing to learn from.
#[cfg(any(feature = "plan", feature = "train"))]
fn read_examples(model: &ModelFolder, path: &Path, max_length: usize) -> anyhow::Result<Examples> {
    let reading = Reading { encoder: &model.encoder, vocabulary: model.config.vocabulary, max_length };
    let read = examples::read(path, &reading)?;
    if let Some(first) = read.without_targets.first() {
        tracing::warn!(
            "{}: {} of {} rows are left out: no target within {max_length} tokens (the first is line {first})",
            path.display(),
            read.without_targets.len(),
            read.rows
        );
    }
    Ok(read)
}
