//! Files written whole or not at all, and files read whole only where they are no larger than they should be.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::{TempDir, TempPath};

/// Letters and digits that tell temporary files of one name apart.
const RANDOM: usize = 16;
const SUFFIX: &str = ".tmp";

/// Writes `path` so that a reader sees either the old file or the whole new one, whatever happens in between:
/// to a temporary file beside it, fsync, rename.
///
/// Follows links, and writes straight into pipes and devices, which a rename would replace.
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

/// Whether [`write_whole`] could write `path` now; nothing is left there. For work that takes long before it writes.
///
/// # Errors
/// Where `path` is a folder, and where the folder that it lies in is missing or may not be written in.
pub fn check_place(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder; name a file in it"))
        }
        Ok(found) if !found.is_file() => Ok(()),
        _ => Unfinished::create(std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())).map(drop),
    }
}

/// Whether a folder could be made at `path` now, with all that it lies in; nothing is left there. One that is there
/// already must be one that may be written in.
///
/// # Errors
/// Where something that is no folder is in the way, or a folder that may not be written in.
pub fn check_folder_place(path: &Path) -> io::Result<()> {
    let mut folders = path.ancestors().map(or_here);
    let folder = folders.find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(Path::new("."));
    builder(OsStr::new("."), 0o700).tempdir_in(folder).map(drop).map_err(cannot_write_in(folder))
}

/// A file that is being written: a temporary one beside its path until it is committed, and gone if it never is.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    temporary: TempPath,
    writer: BufWriter<File>,
}

impl Unfinished {
    /// Begins a file that will stand at `path`.
    pub fn create(path: PathBuf) -> io::Result<Unfinished> {
        let (folder, prefix) = beside(&path)?;
        let (file, temporary) =
            builder(&prefix, 0o666).tempfile_in(folder).map_err(cannot_write_in(folder))?.into_parts();
        Ok(Unfinished { path, temporary, writer: BufWriter::with_capacity(1 << 20, file) })
    }

    /// The buffered writer; its `get_ref` is the file itself, for locks and sizes.
    pub fn writer(&mut self) -> &mut BufWriter<File> {
        &mut self.writer
    }

    /// Where the file will stand.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs all that was written to disk, then moves the file into place.
    pub fn commit(mut self) -> io::Result<()> {
        self.writer.flush()?;
        self.writer.get_ref().sync_all()?;
        self.temporary.persist(&self.path)?;
        sync_folder_of(&self.path)
    }
}

/// The folder that `path` lies in, and how the hidden names of temporary files begin that will stand there.
fn beside(path: &Path) -> io::Result<(&Path, OsString)> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"))?;
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    Ok((folder_of(path), prefix))
}

/// Builds temporary files and folders that whoever may read files of this user's may read, too.
fn builder(prefix: &OsStr, mode: u32) -> tempfile::Builder<'_, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).suffix(SUFFIX).rand_bytes(RANDOM);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

/// A new folder with a hidden name beside `path`, to be renamed to it when all is in it; what `path` lies in is created if
/// need be. It is removed when it is dropped.
pub fn folder_beside(path: &Path) -> io::Result<TempDir> {
    let (folder, prefix) = beside(path)?;
    std::fs::create_dir_all(folder)?;
    builder(&prefix, 0o777).tempdir_in(folder).map_err(cannot_write_in(folder))
}

/// The name of the file that a temporary one was to become; `None` if its name is not that of a temporary file.
pub fn temporary_of(name: &str) -> Option<&str> {
    let (file, random) = name.strip_prefix('.')?.strip_suffix(SUFFIX)?.rsplit_once('.')?;
    (random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(file)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().map_or(Path::new("."), or_here)
}

/// A folder by a path that can be opened: the parent of a bare name is empty.
fn or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// For `map_err` where a temporary file or folder cannot be made: its folder is named, not its own random name.
fn cannot_write_in(folder: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| {
        let folder = folder.display();
        let reason = match error.kind() {
            io::ErrorKind::NotFound => format!("there is no folder {folder}"),
            io::ErrorKind::NotADirectory => format!("{folder} is no folder"),
            kind => format!("cannot write in the folder {folder}: {kind}"),
        };
        io::Error::new(error.kind(), reason)
    }
}

/// Makes a rename survive a power cut by syncing the folder that `path` lies in; only Unix can open folders.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    sync_folder(folder_of(path))
}

/// Makes a folder's entries survive a power cut.
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

/// What a file of JSON holds that may not be there; [`io::ErrorKind::InvalidData`] for one that is no JSON.
pub fn json_if_there(path: &Path, cap: u64) -> io::Result<Option<serde_json::Value>> {
    match read_at_most(path, cap) {
        Ok(text) => {
            Ok(Some(serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
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

/// Gives up the memory that part of a map occupies; a later access reads the file again.
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
    fn a_place_that_cannot_be_written_is_found_before_and_its_folder_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), b"x").unwrap();
        let shown = folder.path().display();
        let said = |checked: io::Result<()>| checked.unwrap_err().to_string();
        assert_eq!(said(check_place(&at("none/plan.json"))), format!("there is no folder {shown}/none"));
        assert_eq!(said(check_place(&at("file/plan.json"))), format!("{shown}/file is no folder"));
        assert_eq!(said(check_place(folder.path())), "is a folder; name a file in it");
        assert_eq!(said(check_folder_place(&at("file/of/runs"))), format!("{shown}/file is no folder"));
        for free in ["plan.json", "file"] {
            check_place(&at(free)).unwrap();
        }
        check_folder_place(&at("many/new/folders")).unwrap();
        check_folder_place(Path::new("new")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        #[cfg(unix)]
        check_place(Path::new("/dev/null")).unwrap();
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
    fn temporary_files_are_hidden_beside_their_file_and_known_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        let files = [Unfinished::create(path.clone()).unwrap(), Unfinished::create(path.clone()).unwrap()];
        let names: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), 2);
        assert!(names.iter().all(|name| temporary_of(name) == Some("plan.json")), "{names:?}");
        drop(files);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!([".plan.json.tmp", "plan.json", ".plan.json.0123.tmp"].map(temporary_of), [None; 3]);
        assert!(Unfinished::create("..".into()).is_err());
    }

    #[test]
    fn a_folder_beside_another_creates_what_it_lies_in_and_goes_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("models/merged");
        let temporary = folder_beside(&out).unwrap();
        assert_eq!(temporary.path().parent(), out.parent());
        drop(temporary);
        assert_eq!(std::fs::read_dir(folder.path().join("models")).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn files_have_the_permissions_that_any_new_file_has() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (usual, whole) = (folder.path().join("usual"), folder.path().join("whole"));
        std::fs::write(&usual, b"x").unwrap();
        write_bytes(&whole, b"x").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&whole), mode(&usual));
    }
}
