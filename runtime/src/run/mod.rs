//! Run folders: written, read, merged into a model; and a whole training from files to folder.

pub mod folder;
pub mod job;
pub mod merge;
mod tensor_file;
