//! Writes safetensors files: the same tensors give the same bytes, and no more than one tensor is in memory at a time.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use frostline_schemas::files;
use frostline_schemas::model::Dtype;
use serde_json::{Map, json};

/// What the header says of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

impl Entry {
    /// Size of the elements in the file.
    pub(super) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Writes a file, whole or not at all; `content` gives each tensor's bytes, row-major and little-endian.
pub(super) fn write<'a>(
    path: &Path,
    mut entries: Vec<Entry>,
    metadata: &BTreeMap<String, String>,
    content: impl Fn(&Entry) -> io::Result<std::borrow::Cow<'a, [u8]>>,
) -> io::Result<()> {
    // Wide types first, as the safetensors library orders them: so every tensor begins at a multiple of its width.
    entries.sort_by(|a, b| b.dtype.bitsize().cmp(&a.dtype.bitsize()).then_with(|| a.name.cmp(&b.name)));
    let header = header(&entries, metadata)?;
    files::write_whole(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for entry in &entries {
            let bytes = content(entry)?;
            if bytes.len() != entry.bytes() {
                return Err(io::Error::other(format!("tensor `{}` has the wrong number of bytes", entry.name)));
            }
            file.write_all(&bytes)?;
        }
        Ok(())
    })
}

fn header(entries: &[Entry], metadata: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut fields = Map::new();
    if !metadata.is_empty() {
        fields.insert("__metadata__".into(), json!(metadata));
    }
    let mut offset = 0;
    for entry in entries {
        let end = offset + entry.bytes();
        let info = json!({ "dtype": entry.dtype, "shape": entry.shape, "data_offsets": [offset, end] });
        fields.insert(entry.name.clone(), info);
        offset = end;
    }
    let mut header = serde_json::to_vec(&fields)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}
