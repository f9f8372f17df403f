//! What can be wrong with the files of shards' traces.

use std::io;
use std::path::PathBuf;

use frostline_schemas::units::plural;

use crate::batch::shard::SampleShard;

/// Traces that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum TracesError {
    /// The file is missing, unreadable or cannot be written.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// What stands where traces are to be written is something else.
    #[error("{}: is there already and holds no traces; name another place or remove it", path.display())]
    Taken { path: PathBuf },
    /// The file is something else, or cut off.
    #[error("{}: not a whole traces file: {reason}; give the traces of a shard, or compute the shard again", path.display())]
    NotTraces { path: PathBuf, reason: String },
    /// The file was written by a newer Frostline.
    #[error("{}: version {found} of the traces file is newer than {newest}, the newest that this Frostline reads; update Frostline", path.display())]
    Newer { path: PathBuf, found: u64, newest: u64 },
    /// The file was written by an older Frostline, and lacks what plans say now.
    #[error("{}: version {found} of the traces file, of an older Frostline, which this one cannot plan with (it reads {oldest}); compute the shard again", path.display())]
    Older { path: PathBuf, found: u64, oldest: u64 },
    /// The file says what it is, but does not hold that.
    #[error("{}: {reason}; compute shard {shard} again", path.display())]
    Content { path: PathBuf, shard: SampleShard, reason: String },
    /// The traces are another model's.
    #[error("{}: traces of another model: {}; give the model that they were computed with, or compute shard {shard} again", path.display(), differences.join("; "))]
    OtherModel { path: PathBuf, shard: SampleShard, differences: Vec<String> },
    /// The traces hold numbers of an older or newer kind.
    #[error("{}: its {kind} are of format {found}, this Frostline computes format {format}; compute shard {shard} again, with the same Frostline on all machines", path.display())]
    OtherFormat { path: PathBuf, shard: SampleShard, kind: &'static str, found: u64, format: u64 },
    /// The traces were computed from something else than the plan is to be made of.
    #[error("{}: computed with {what} {found}, the plan is to be made with {expected}; give both the same, or compute shard {shard} again", path.display())]
    OtherSetting {
        path: PathBuf,
        shard: SampleShard,
        what: &'static str,
        setting: Option<&'static str>,
        found: String,
        expected: String,
    },
    /// Two shards that were not computed alike.
    #[error("{}: computed with {what} {found}, {} with {expected}; compute one of them again, so that all shards are alike", path.display(), other.display())]
    Unlike { path: PathBuf, other: PathBuf, what: &'static str, found: String, expected: String },
    /// A shard that is given twice.
    #[error("{}: shard {shard}, which {} is, too; give each shard once", path.display(), other.display())]
    Twice { path: PathBuf, other: PathBuf, shard: SampleShard },
    /// Shards that are not given.
    #[error("{}: shard {shard}, but no file holds shard {missing}; compute each of the {}, and give all files", path.display(), plural(shard.of(), "shard"))]
    Missing { path: PathBuf, shard: SampleShard, missing: String },
    /// Nothing was given.
    #[error("no traces to make a plan of; give the files of all shards")]
    NoFiles,
}

impl TracesError {
    /// The setting that caused the error or would cure it, in snake case.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            TracesError::Content { .. }
            | TracesError::Older { .. }
            | TracesError::OtherModel { .. }
            | TracesError::OtherFormat { .. } => Some("shard"),
            TracesError::OtherSetting { setting, .. } => *setting,
            TracesError::Missing { .. } => Some("shard"),
            TracesError::NoFiles => Some("from_traces"),
            _ => None,
        }
    }
}
