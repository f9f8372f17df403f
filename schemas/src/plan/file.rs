//! The plan file: read and checked, written whole or not at all.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::canonical;
use crate::digest::Digest;
use crate::files;
use crate::plan::Plan;

/// The version of the plan file that is written, and the newest that is read.
pub const VERSION: u64 = 1;
/// The revision of that version: raised with each addition that older files do without.
pub const REVISION: u64 = 2;
/// The largest plan read, in bytes: some hundred times that of the largest model.
const MAX_PLAN: u64 = 1 << 26;

/// A plan that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum PlanError {
    /// The file is missing, unreadable or cannot be written.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// The file is no JSON, or is cut off.
    #[error("{}: not a plan: {reason}", path.display())]
    NotAPlan { path: PathBuf, reason: String },
    /// The file was written by a newer Frostline.
    #[error("{}: version {version}.{revision} of the plan file is newer than {VERSION}.{REVISION}, the newest that this Frostline reads; update Frostline", path.display())]
    Newer { path: PathBuf, version: u64, revision: u64 },
    /// A field is unknown, missing or of the wrong type.
    #[error("{}: {reason}", path.display())]
    Field { path: PathBuf, reason: String },
    /// The content is not what was written.
    #[error("{}: changed since it was written: `{field}` says {stated}, the content gives {found}; restore the file or plan again", path.display())]
    Changed { path: PathBuf, field: &'static str, stated: Digest, found: Digest },
    /// The parts of the plan contradict each other.
    #[error("{}: contradicts itself: {reason}; plan again", path.display())]
    Inconsistent { path: PathBuf, reason: String },
    /// The plan was made for another model.
    #[error("the plan does not fit the model: {}; plan again for this model, or give the model that the plan was made for", .0.join("; "))]
    Misfit(Vec<String>),
    /// The rows are those that were planned with, and their tokens are others.
    #[error(
        "the plan's rows were read as other tokens ({planned}, and now {found}): files of the tokenizer or Frostline changed since; plan again"
    )]
    OtherTokens { planned: String, found: String },
}

/// What says by which format a file is to be read.
#[derive(Deserialize)]
struct Format {
    version: u64,
    #[serde(default)]
    revision: u64,
}

impl Plan {
    /// Reads a plan and checks that it is whole, unchanged and free of contradictions.
    pub fn read(path: &Path) -> Result<Plan, PlanError> {
        let text = files::read_at_most(path, MAX_PLAN).map_err(|source| match source.kind() {
            std::io::ErrorKind::InvalidData => PlanError::NotAPlan { path: path.into(), reason: source.to_string() },
            _ => PlanError::File { path: path.into(), source },
        })?;
        Plan::parse(path, &text)
    }

    /// Parses a plan's text; `path` is for messages.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Plan, PlanError> {
        let not_a_plan =
            |error: serde_json::Error| PlanError::NotAPlan { path: path.into(), reason: error.to_string() };
        let Format { version, revision } = serde_json::from_slice(text).map_err(not_a_plan)?;
        if (version, revision) > (VERSION, REVISION) {
            return Err(PlanError::Newer { path: path.into(), version, revision });
        }
        let plan: Plan = serde_json::from_slice(text)
            .map_err(|error| PlanError::Field { path: path.into(), reason: error.to_string() })?;
        plan.check_seal(path)?;
        plan.check_consistency().map_err(|reason| PlanError::Inconsistent { path: path.into(), reason })?;
        Ok(plan)
    }

    /// Writes the plan, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), PlanError> {
        let failed = |source| PlanError::File { path: path.into(), source };
        let text = self.to_text().map_err(|error| failed(error.into()))?;
        files::write_bytes(path, text.as_bytes()).map_err(failed)
    }

    /// The file's text.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        canonical::to_text(self)
    }
}
