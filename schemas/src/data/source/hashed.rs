//! A regular file that is hashed as it is read, and must not change meanwhile.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::time::SystemTime;

use super::error::Reason;
use crate::digest::{Digest, Hasher};

/// Bytes of a file that say what it is.
const HEAD: u64 = 1 << 16;

/// A file that is hashed as it is read.
pub(super) struct Hashed {
    file: File,
    hasher: Hasher,
    read: u64,
    found: Found,
}

/// What would differ if the file was written to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Found {
    size: u64,
    modified: Option<SystemTime>,
}

impl Hashed {
    /// Opens a regular file. Nothing else is opened: a pipe would wait.
    pub(super) fn open(path: &Path) -> Result<Hashed, Reason> {
        let found = std::fs::metadata(path)?;
        if found.is_dir() {
            return Err(Reason::Kind("a folder, not a file".into()));
        }
        if !found.is_file() {
            return Err(Reason::Kind("a pipe or a device, not a file".into()));
        }
        let file = File::open(path)?;
        let found = found_of(&file)?;
        Ok(Hashed { file, hasher: Hasher::default(), read: 0, found })
    }

    /// The file's first bytes, which stay to be read.
    pub(super) fn head(&mut self) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        self.file.by_ref().take(HEAD).read_to_end(&mut head)?;
        self.file.rewind()?;
        Ok(head)
    }

    /// Bytes of the file.
    #[cfg(feature = "parquet")]
    pub(super) fn size(&self) -> u64 {
        self.found.size
    }

    /// A second handle on the file, for readers that jump; to be used before or after this one, not between its reads.
    #[cfg(feature = "parquet")]
    pub(super) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The digest of the whole file, what was not read yet included.
    pub(super) fn digest(mut self) -> Result<Digest, Reason> {
        let offset = self.read;
        self.file.seek(io::SeekFrom::Start(offset))?;
        io::copy(&mut io::BufReader::with_capacity(1 << 20, self.by_ref()), &mut io::sink())?;
        if self.read != self.found.size || found_of(&self.file)? != self.found {
            return Err(Reason::Changed);
        }
        Ok(self.hasher.finish())
    }
}

fn found_of(file: &File) -> io::Result<Found> {
    let found = file.metadata()?;
    Ok(Found { size: found.len(), modified: found.modified().ok() })
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(buffer.get(..read).unwrap_or_default());
        self.read = self.read.saturating_add(read as u64);
        Ok(read)
    }
}
