//! The data files beside an ONNX file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use frostline_schemas::files;
use memmap2::Mmap;
use tract_onnx::pb::{TensorProto, tensor_proto::DataLocation};

use crate::error::{Error, Result};

/// Memory maps of a model's data files, by the location that the graph names.
pub(crate) struct ExternalFiles {
    folder: PathBuf,
    maps: BTreeMap<String, Mmap>,
}

/// Whether a tensor's bytes lie in another file.
pub(super) fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32)
}

impl ExternalFiles {
    /// Maps each file that one of `tensors` refers to, relative to the folder of `model`.
    pub(crate) fn map(model: &Path, tensors: &[&TensorProto]) -> Result<ExternalFiles> {
        let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut maps = BTreeMap::new();
        for tensor in tensors.iter().filter(|tensor| is_external(tensor)) {
            let location = field(tensor, "location").unwrap_or_default();
            let bad = |reason: String| external(model, tensor, reason);
            if !maps.contains_key(location) {
                let path = inside(folder, location).map_err(bad)?;
                let map = files::map(&path).map_err(|error| bad(error.to_string()))?;
                maps.insert(location.to_owned(), map);
            }
        }
        Ok(ExternalFiles { folder: folder.into(), maps })
    }

    /// The folder that locations are relative to.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether all weights lie inside the ONNX file.
    pub(crate) fn is_empty(&self) -> bool {
        self.maps.is_empty()
    }

    /// Names of the files and their sizes in bytes.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.maps.iter().map(|(name, map)| (name.as_str(), map.len() as u64))
    }

    /// A tensor's bytes. A tensor that names no length has `length` bytes.
    pub(crate) fn bytes(&self, model: &Path, tensor: &TensorProto, length: usize) -> Result<&[u8]> {
        let (map, range) = self.range(model, tensor, length)?;
        let beyond = || external(model, tensor, format!("bytes {range:?} of a file of {} bytes", map.len()));
        map.get(range.clone()).ok_or_else(beyond)
    }

    /// Lets go of the memory that a tensor's bytes occupy, once they have been read.
    pub(crate) fn release(&self, model: &Path, tensor: &TensorProto, length: usize) {
        if let Ok((map, range)) = self.range(model, tensor, length) {
            files::release(map, range);
        }
    }

    fn range(&self, model: &Path, tensor: &TensorProto, length: usize) -> Result<(&Mmap, Range<usize>)> {
        let bad = |reason: String| external(model, tensor, reason);
        let map =
            self.maps.get(field(tensor, "location").unwrap_or_default()).ok_or_else(|| bad("not mapped".into()))?;
        let number = |key: &str, default: usize| match field(tensor, key) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| bad(format!("its {key} `{text}` is not a number"))),
        };
        let (offset, length) = (number("offset", 0)?, number("length", length)?);
        let end =
            offset.checked_add(length).ok_or_else(|| bad(format!("offset {offset} + length {length} overflow")))?;
        Ok((map, offset..end))
    }
}

fn field<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

fn external(model: &Path, tensor: &TensorProto, reason: String) -> Error {
    let location = field(tensor, "location").unwrap_or_default().to_owned();
    Error::External { path: model.into(), location, tensor: tensor.name.clone(), reason }
}

/// The path of a data file, or what is wrong with its name: it must not climb out of the model's folder. The file itself
/// may be a link to elsewhere, since the cache of the Hugging Face hub keeps every file as a link into one store.
fn inside(folder: &Path, location: &str) -> Result<PathBuf, String> {
    let relative = Path::new(location);
    let plain = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
    if location.is_empty() {
        return Err("it names no file".into());
    }
    if location.contains('\\') || !relative.components().all(plain) {
        return Err("it leaves the model's folder".into());
    }
    Ok(folder.join(relative))
}
