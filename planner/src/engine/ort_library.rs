//! Finds and loads the ONNX Runtime library, once for each process.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use crate::error::{Error, Result};

/// The loaded library.
#[derive(Clone)]
pub(crate) struct Library {
    pub path: PathBuf,
    /// As the library says, `1.32.0`.
    pub version: String,
    pub environment: Environment,
}

/// ort keeps one library and one environment for the whole process, and none can be made once this one is dropped.
static LOADED: Mutex<Option<Library>> = Mutex::new(None);

/// Loads ONNX Runtime from `explicit`, or else from `ORT_DYLIB_PATH`, or else from the installed Python package
/// `onnxruntime`. The error lists what was tried.
pub(crate) fn load(explicit: Option<&Path>) -> Result<Library> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = loaded.as_ref() {
        return match explicit.filter(|path| !same_file(path, &library.path)) {
            None => Ok(library.clone()),
            Some(path) => Err(no_ort(format!("{} is loaded already, not {}", library.path.display(), path.display()))),
        };
    }
    let path = find(explicit)?;
    let library = open(&path)?;
    tracing::info!(path = %path.display(), version = library.version, "ONNX Runtime loaded");
    Ok(loaded.insert(library).clone())
}

fn no_ort(tried: String) -> Error {
    Error::NoOrt { tried }
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// Where the library lies. A path that was given and does not exist is an error; nothing else is tried then.
pub(crate) fn find(explicit: Option<&Path>) -> Result<PathBuf> {
    let variable = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    let given = [("the library is to be", explicit.map(Path::to_path_buf)), ("ORT_DYLIB_PATH names", variable)];
    for (source, path) in given {
        let Some(path) = path else { continue };
        let file = if path.is_dir() { library_in(&path) } else { path.is_file().then(|| path.clone()) };
        let absolute = file.and_then(|file| std::path::absolute(file).ok());
        return absolute.ok_or_else(|| no_ort(format!("{source} {}, where there is none", path.display())));
    }
    in_python_package().map_err(|reason| no_ort(format!("neither a library nor ORT_DYLIB_PATH is given, and {reason}")))
}

/// Asks the Python interpreters on the path where the package lies, without importing it.
fn in_python_package() -> Result<PathBuf, String> {
    const ASK: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); print(s.origin if s else '')";
    for interpreter in ["python3", "python"] {
        let Ok(answer) = Command::new(interpreter).args(["-c", ASK]).output() else { continue };
        let origin = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
        if let Some(library) = origin.parent().and_then(|folder| library_in(&folder.join("capi"))) {
            return Ok(library);
        }
    }
    Err("neither python3 nor python has a package onnxruntime".into())
}

/// The library in a folder: `libonnxruntime.so.1.32.0`, `libonnxruntime.1.32.0.dylib` or `onnxruntime.dll`.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_library));
    found.sort();
    found.pop()
}

fn is_library(name: &str) -> bool {
    match std::env::consts::OS {
        "windows" => name == "onnxruntime.dll",
        "macos" => name.starts_with("libonnxruntime.") && name.ends_with(".dylib"),
        _ => name.starts_with("libonnxruntime.so"),
    }
}

fn open(path: &Path) -> Result<Library> {
    let failed = |error: String| no_ort(format!("{}: {error}", path.display()));
    let version = version(path).map_err(failed)?;
    // Refuses a library that is too old for the bindings before anything else of it is called.
    let builder = ort::init_from(path).map_err(|error| failed(error.to_string()))?;
    let environment = builder.with_name("frostline").with_telemetry(false).build();
    let environment = environment.map_err(|error| failed(error.to_string()))?;
    Ok(Library { path: path.into(), version, environment })
}

/// What the library itself says that it is, `1.32.0`.
fn version(path: &Path) -> Result<String, String> {
    // SAFETY: loading a library runs its initialisers. The user names it, or it is the installed onnxruntime; that it is
    // trusted is the premise of using it at all. `OrtGetApiBase` and `GetVersionString` have had these signatures in
    // every release, and the text is static.
    unsafe {
        let library = libloading::Library::new(path).map_err(|error| error.to_string())?;
        let base: libloading::Symbol<unsafe extern "system" fn() -> *const ort::sys::OrtApiBase> =
            library.get(b"OrtGetApiBase\0").map_err(|_| "not ONNX Runtime: it has no `OrtGetApiBase`".to_owned())?;
        let base = base().as_ref().ok_or("`OrtGetApiBase` gives nothing")?;
        let text = CStr::from_ptr((base.GetVersionString)());
        Ok(text.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_does_not_exist_is_named() {
        let error = find(Some(Path::new("/nowhere/libonnxruntime.so"))).unwrap_err().to_string();
        assert!(error.contains("the library is to be /nowhere/libonnxruntime.so"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_library_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"no library").unwrap();
        assert!(matches!(open(file.path()), Err(Error::NoOrt { .. })));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn names_of_the_library_but_not_of_its_providers() {
        assert!(is_library("libonnxruntime.so.1.32.0") && is_library("libonnxruntime.so"));
        assert!(!is_library("libonnxruntime_providers_shared.so"));
    }
}
