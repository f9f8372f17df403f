//! Run folders: written, read, merged into a model; and a whole training from files to folder.

mod job;
mod merge;
mod reader;
mod tensor_file;
mod writer;

pub use self::job::{Finished, Job, JobFiles};
pub use self::merge::{MergeReport, MergeTypes, merge};
pub use self::reader::{ChangedTensors, Run};
pub use self::writer::RunWriter;
