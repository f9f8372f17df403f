//! Files written whole or not at all, and files read whole only where they are no larger than they should be.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Writes `path` so that a reader sees either the old file or the whole new one, whatever happens in between:
/// to a temporary file beside it, fsync, rename.
///
/// A link is followed, and what is no file (a pipe, a device) is written into: a rename would take its place.
pub fn write_whole(path: &Path, content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let mut writer = BufWriter::new(std::fs::OpenOptions::new().write(true).open(path)?);
        content(&mut writer)?;
        return writer.flush();
    }
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut file = Unfinished::create(path)?;
    content(file.writer())?;
    file.commit()
}

/// A file that is being written: a temporary one beside its path until it is committed, and gone if it never is.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    temporary: PathBuf,
    writer: BufWriter<File>,
    committed: bool,
}

impl Unfinished {
    /// Begins a file that will stand at `path`.
    pub fn create(path: PathBuf) -> io::Result<Unfinished> {
        let temporary = temporary_beside(&path)?;
        let writer = BufWriter::with_capacity(1 << 20, File::create_new(&temporary)?);
        Ok(Unfinished { path, temporary, writer, committed: false })
    }

    /// What is written through; the file itself is behind it, for locks and sizes.
    pub fn writer(&mut self) -> &mut BufWriter<File> {
        &mut self.writer
    }

    /// Where the file will stand.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has all that was written reach the disk, then puts the file in its place.
    pub fn commit(mut self) -> io::Result<()> {
        self.writer.flush()?;
        self.writer.get_ref().sync_all()?;
        std::fs::rename(&self.temporary, &self.path)?;
        self.committed = true;
        sync_folder_of(&self.path)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.committed {
            // What failed is reported; that the half-written file could not be removed either would only hide it.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// A hidden name beside `path` to write to before renaming; no other process or thread gets the same one.
///
/// The process id alone would not do: containers that share a folder each have a process 1, and one that crashed leaves
/// its file behind.
pub fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    // Each `RandomState` hashes with keys of its own, drawn from the system.
    hidden.push(format!(".{:016x}.tmp", RandomState::new().hash_one(path)));
    Ok(path.with_file_name(hidden))
}

/// Makes a rename last through a power cut: syncs the folder that `path` lies in; only Unix lets a folder be opened.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_folder(folder)
}

/// Makes what a folder lists last through a power cut.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Reads a whole file of at most `cap` bytes. A larger one is `InvalidData`, before memory is taken for it.
pub fn read_at_most(path: &Path, cap: u64) -> io::Result<Vec<u8>> {
    let too_large = |size: u64| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{size} bytes are more than the {cap} that are read here"))
    };
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size > cap {
        return Err(too_large(size));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // A pipe has no size, and a file may grow meanwhile.
    file.take(cap.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > cap { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
}

/// Memory-maps a file to be read. A folder, a pipe or a device is `InvalidInput`, before it is opened: a pipe would wait.
pub fn map(path: &Path) -> io::Result<memmap2::Mmap> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        let what = if found.is_dir() { "is a folder, not a file" } else { "is no regular file" };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    map_file(&File::open(path)?)
}

/// Memory-maps an open file to be read.
pub fn map_file(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the map is only read. Should another process shorten the file meanwhile, reading it raises a bus error,
    // as with every memory-mapped weight file; nothing here writes to files it has mapped.
    unsafe { memmap2::Mmap::map(file) }
}

/// Lets go of the memory in which a part of a map stands. Read again, it comes from the file again.
pub fn release(map: &memmap2::Mmap, part: std::ops::Range<usize>) {
    #[cfg(unix)]
    {
        let (from, bytes) = (part.start.min(map.len()), part.len());
        // SAFETY: the map shares its pages with a file and is only read, so nothing is lost with them.
        let released = unsafe {
            map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, from, bytes.min(map.len() - from))
        };
        if let Err(error) = released {
            tracing::debug!(%error, "memory of a map not released");
        }
    }
    #[cfg(not(unix))]
    let _ = (map, part);
}

/// Writes bytes through [`write_whole`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole(path, |file| file.write_all(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn links_are_followed_and_devices_left_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("plan.json"), folder.path().join("link.json"));
        std::fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_bytes(&link, b"new").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert!(link.is_symlink());

        let device = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &device).unwrap();
        write_bytes(&device, b"gone").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
        assert!(write_bytes(folder.path(), b"a folder").is_err());
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        write_bytes(&path, b"old").unwrap();
        let failed = write_whole(&path, |file| {
            file.write_all(b"half of the new")?;
            Err(io::Error::other("disk full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "disk full");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_larger_than_its_cap_is_refused_and_one_as_large_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"four").unwrap();
        assert_eq!(read_at_most(file.path(), 4).unwrap(), b"four");
        let error = read_at_most(file.path(), 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(error.to_string(), "4 bytes are more than the 3 that are read here");
    }

    #[test]
    fn what_is_no_file_is_not_mapped() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(map(folder.path()).unwrap_err().to_string(), "is a folder, not a file");
        #[cfg(unix)]
        assert_eq!(map(Path::new("/dev/null")).unwrap_err().to_string(), "is no regular file");
        assert_eq!(map(&folder.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_without_an_end_is_refused() {
        assert_eq!(read_at_most(Path::new("/dev/zero"), 1 << 16).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn temporary_names_lie_beside_the_file_and_differ() {
        let path = Path::new("run/plan.json");
        let (one, other) = (temporary_beside(path).unwrap(), temporary_beside(path).unwrap());
        assert_ne!(one, other);
        assert_eq!(one.parent(), path.parent());
        assert!(temporary_beside(Path::new("..")).is_err());
    }
}
