//! Run folders: written, read, merged into a model; and whole trainings and evaluations from files.

mod eval;
mod job;
mod merge;
mod reader;
mod tensor_file;
mod writer;

pub use self::eval::{EvalFiles, EvalJob, EvalSettings};
pub use self::job::{Finished, Job, JobFiles};
pub use self::merge::{MergeReport, MergeTypes, merge};
pub use self::reader::{ChangedTensors, Run};
pub use self::writer::RunWriter;
