//! A model's weights: safetensors files, one or several with an index, memory-mapped.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
pub use safetensors::Dtype;
use safetensors::SafeTensors;
use serde::Deserialize;

use crate::digest::{Digest, Fingerprint, Hasher};
use crate::files;
use crate::model::{DecoderConfig, TensorSpec};

/// The file of a model that is not sharded.
pub const SINGLE_FILE: &str = "model.safetensors";
/// The index of a model that is.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// The largest index read, in bytes: a thousand times that of any known model.
const MAX_INDEX: u64 = 1 << 28;

/// Weights that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum WeightsError {
    /// Neither a single file nor an index.
    #[error("{}: has neither {SINGLE_FILE} nor {INDEX_FILE}; save the model with `save_pretrained(…, safe_serialization=True)`", folder.display())]
    NoWeights { folder: PathBuf },
    /// A file is missing or unreadable.
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The index is not what Hugging Face writes.
    #[error("{}: {reason}", path.display())]
    Index { path: PathBuf, reason: String },
    /// The file is cut off or is no safetensors file.
    #[error("{}: not a whole safetensors file: {source}", path.display())]
    Malformed { path: PathBuf, source: safetensors::SafeTensorError },
    /// Two shards hold a tensor of the same name.
    #[error("{}: holds tensor `{name}`, which {other} holds too", path.display())]
    Twice { path: PathBuf, name: String, other: String },
    /// A tensor that the config calls for is not in the files.
    #[error("{}: tensor `{name}` is missing, though config.json calls for it", folder.display())]
    Missing { folder: PathBuf, name: String },
    /// A tensor has another shape than the config says.
    #[error("{}: tensor `{name}` has shape {found:?}, config.json calls for {expected:?}", folder.display())]
    Shape { folder: PathBuf, name: String, found: Vec<usize>, expected: Vec<usize> },
    /// Quantised or integer weights.
    #[error("{}: tensor `{name}` is {dtype:?}; weights must be F32, BF16 or F16 (dequantise the model first)", folder.display())]
    Type { folder: PathBuf, name: String, dtype: Dtype },
}

/// Memory-mapped safetensors files.
pub struct Weights {
    folder: PathBuf,
    shards: Vec<WeightFile>,
    tensors: BTreeMap<String, TensorSlot>,
}

struct WeightFile {
    file_name: String,
    file: File,
    map: memmap2::Mmap,
}

struct TensorSlot {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// One tensor, as it lies in the file.
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    /// The type of the elements.
    pub dtype: Dtype,
    /// The sizes of its dimensions.
    pub shape: &'a [usize],
    /// Row-major, little-endian.
    pub bytes: &'a [u8],
}

#[derive(Deserialize)]
struct WeightIndex {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Maps the weights in `folder` and checks that every file is whole. Reads headers only.
    pub fn open(folder: &Path) -> Result<Weights, WeightsError> {
        let mut weights = Weights { folder: folder.into(), shards: Vec::new(), tensors: BTreeMap::new() };
        if folder.join(SINGLE_FILE).exists() {
            weights.add_shard(SINGLE_FILE)?;
            return Ok(weights);
        }
        let index = read_index(folder)?;
        let mut names: Vec<&String> = index.weight_map.values().collect();
        names.sort();
        names.dedup();
        for name in names {
            weights.add_shard(name)?;
        }
        for (name, file) in &index.weight_map {
            let found = weights.tensors.get(name).map(|slot| weights.shards[slot.shard].file_name.as_str());
            let reason = match found {
                Some(found) if found == file => continue,
                Some(found) => format!("says that tensor `{name}` is in {file}, but it is in {found}"),
                None => format!("names tensor `{name}`, which no shard holds"),
            };
            return Err(WeightsError::Index { path: folder.join(INDEX_FILE), reason });
        }
        Ok(weights)
    }

    fn add_shard(&mut self, file_name: &str) -> Result<(), WeightsError> {
        let path = self.folder.join(file_name);
        let unreadable = |source| WeightsError::Read { path: path.clone(), source };
        let file = File::open(&path).map_err(unreadable)?;
        let map = files::map_file(&file).map_err(unreadable)?;
        let malformed = |source| WeightsError::Malformed { path: path.clone(), source };
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(malformed)?;
        // Eight bytes hold the header's length; read_metadata has checked that header and data fill the file exactly.
        let data = header + 8;
        for (name, info) in metadata.tensors() {
            let slot = TensorSlot {
                shard: self.shards.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                bytes: data + info.data_offsets.0..data + info.data_offsets.1,
            };
            if let Some(other) = self.tensors.get(&name) {
                let other = self.shards.get(other.shard).map_or_else(String::new, |shard| shard.file_name.clone());
                return Err(WeightsError::Twice { path, name, other });
            }
            self.tensors.insert(name, slot);
        }
        self.shards.push(WeightFile { file_name: file_name.into(), file, map });
        Ok(())
    }

    /// The folder that the files lie in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names of all tensors as the files spell them, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Each file's name with the names of its tensors, sorted, as the files spell them.
    pub fn shards(&self) -> Vec<(&str, Vec<&str>)> {
        let mut shards: Vec<(&str, Vec<&str>)> =
            self.shards.iter().map(|shard| (shard.file_name.as_str(), Vec::new())).collect();
        for (name, slot) in &self.tensors {
            shards[slot.shard].1.push(name);
        }
        shards
    }

    /// How the files spell the name of a tensor that a [`DecoderConfig`] names.
    ///
    /// Checkpoints of a bare base model (GPT-2's on the hub is one) leave out the first part, `transformer.`.
    pub fn on_disk_name<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let without_base = name.split_once('.').map(|(_, rest)| rest);
        [Some(name), without_base].into_iter().flatten().find(|name| self.tensors.contains_key(*name))
    }

    /// A tensor by the name that a [`DecoderConfig`] or the file gives it.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        self.require(name).ok()
    }

    /// Gives up the memory that mapping a tensor has taken, once it has been read.
    pub fn release(&self, name: &str) {
        if let Ok(slot) = self.slot(name) {
            files::release(&self.shards[slot.shard].map, slot.bytes.clone());
        }
    }

    /// A tensor that `check` or the config has promised; the error names it.
    pub fn require(&self, name: &str) -> Result<TensorView<'_>, WeightsError> {
        let slot = self.slot(name)?;
        let bytes = &self.shards[slot.shard].map[slot.bytes.clone()];
        Ok(TensorView { dtype: slot.dtype, shape: &slot.shape, bytes })
    }

    /// Checks that every tensor of the config is there, in its shape and in a type that can be computed with.
    pub fn check(&self, config: &DecoderConfig) -> Result<(), WeightsError> {
        config.tensors().into_iter().try_for_each(|spec| self.check_tensor(spec))
    }

    fn check_tensor(&self, spec: &TensorSpec) -> Result<(), WeightsError> {
        let view = self.require(&spec.name)?;
        if view.shape != spec.shape {
            return Err(WeightsError::Shape {
                folder: self.folder.clone(),
                name: spec.name.clone(),
                found: view.shape.into(),
                expected: spec.shape.clone(),
            });
        }
        match view.dtype {
            Dtype::F32 | Dtype::BF16 | Dtype::F16 => Ok(()),
            dtype => Err(WeightsError::Type { folder: self.folder.clone(), name: spec.name.clone(), dtype }),
        }
    }

    /// A tensor's elements as f32. They are read from the file and not through the map, whose pages would stay in
    /// memory beside them.
    pub fn load_f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let TensorView { dtype, bytes, .. } = self.require(name)?;
        let not_float = || WeightsError::Type { folder: self.folder.clone(), name: name.into(), dtype };
        let width = float_width(dtype).ok_or_else(not_float)?;
        let mut values = vec![0.0; bytes.len() / width];
        let mut rest = values.as_mut_slice();
        self.stream(self.slot(name)?, |bytes| {
            let (part, others) = std::mem::take(&mut rest).split_at_mut(bytes.len() / width);
            convert(dtype, bytes, part);
            rest = others;
        })?;
        Ok(values)
    }

    fn slot(&self, name: &str) -> Result<&TensorSlot, WeightsError> {
        let missing = || WeightsError::Missing { folder: self.folder.clone(), name: name.into() };
        self.on_disk_name(name).and_then(|name| self.tensors.get(name)).ok_or_else(missing)
    }

    /// Reads a tensor block by block.
    fn stream(&self, slot: &TensorSlot, mut f: impl FnMut(&[u8])) -> Result<(), WeightsError> {
        const BLOCK: usize = 1 << 18;
        let shard = &self.shards[slot.shard];
        let mut buffer = vec![0; BLOCK.min(slot.bytes.len())];
        for start in slot.bytes.clone().step_by(BLOCK) {
            let block = &mut buffer[..BLOCK.min(slot.bytes.end - start)];
            let path = || self.folder.join(&shard.file_name);
            shard.read(start, block).map_err(|source| WeightsError::Read { path: path(), source })?;
            f(block);
        }
        Ok(())
    }

    /// Digest of names, types, shapes and contents (their [`Fingerprint`]s) of all tensors. How they are spread over
    /// files, and what stands in the files' metadata, does not count.
    ///
    /// # Errors
    /// [`WeightsError::Read`] where a file cannot be read any more.
    pub fn digest(&self) -> Result<Digest, WeightsError> {
        let content = |slot: &TensorSlot| {
            let mut contents = Fingerprint::default();
            self.stream(slot, |bytes| contents.update(bytes)).map(|()| contents.finish())
        };
        let contents: Vec<[u8; 32]> =
            self.tensors.par_iter().map(|(_, slot)| content(slot)).collect::<Result<_, _>>()?;
        let mut hasher = Hasher::default();
        for ((name, slot), content) in self.tensors.iter().zip(contents) {
            hasher.update_framed(name.as_bytes());
            hasher.update_framed(slot.dtype.to_string().as_bytes());
            let shape: Vec<u8> = slot.shape.iter().flat_map(|&n| (n as u64).to_le_bytes()).collect();
            hasher.update_framed(&shape);
            hasher.update(&content);
        }
        Ok(hasher.finish())
    }
}

impl WeightFile {
    #[cfg(unix)]
    fn read(&self, start: usize, out: &mut [u8]) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, out, start as u64)
    }

    /// Other systems have no read at an offset that leaves the file's cursor alone, so the map is read.
    #[cfg(not(unix))]
    fn read(&self, start: usize, out: &mut [u8]) -> std::io::Result<()> {
        out.copy_from_slice(&self.map[start..start + out.len()]);
        Ok(())
    }
}

fn read_index(folder: &Path) -> Result<WeightIndex, WeightsError> {
    let path = folder.join(INDEX_FILE);
    let bad = |reason: String| WeightsError::Index { path: path.clone(), reason };
    let text = files::read_at_most(&path, MAX_INDEX).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => WeightsError::NoWeights { folder: folder.into() },
        std::io::ErrorKind::InvalidData => bad(source.to_string()),
        _ => WeightsError::Read { path: path.clone(), source },
    })?;
    let index: WeightIndex = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    let outside = |file: &&String| Path::new(file).components().count() != 1 || file.contains(['/', '\\']);
    match index.weight_map.values().find(outside) {
        Some(file) => Err(bad(format!("names `{file}`, which does not lie beside it"))),
        None if index.weight_map.is_empty() => Err(bad("names no tensors".into())),
        None => Ok(index),
    }
}

impl<'a> TensorView<'a> {
    /// The elements as f32, exactly; `None` where the type is not F32, BF16 or F16.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        const CHUNK: usize = 1 << 16;
        let width = float_width(self.dtype)?;
        let mut out = vec![0.0; self.bytes.len() / width];
        let read = |(k, part): (usize, &mut [f32])| self.read_f32(k * CHUNK, part);
        out.par_chunks_mut(CHUNK).enumerate().all(read).then_some(out)
    }

    /// The elements as they lie in memory, where they are F32 and aligned; `None` where they have to be read.
    pub fn as_f32(&self) -> Option<&'a [f32]> {
        match self.dtype {
            Dtype::F32 if cfg!(target_endian = "little") => bytemuck::try_cast_slice(self.bytes).ok(),
            _ => None,
        }
    }

    /// Fills `out` with the elements from `start` on; false where the type is no float type or the range is outside.
    pub fn read_f32(&self, start: usize, out: &mut [f32]) -> bool {
        let Some(bytes) = float_width(self.dtype).and_then(|width| {
            let from = start.checked_mul(width)?;
            self.bytes.get(from..from.checked_add(out.len().checked_mul(width)?)?)
        }) else {
            return false;
        };
        convert(self.dtype, bytes, out);
        true
    }
}

fn float_width(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F32 => Some(4),
        Dtype::BF16 | Dtype::F16 => Some(2),
        _ => None,
    }
}

fn convert(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F32 => {
            for (value, four) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *value = f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
            }
        }
        Dtype::BF16 => {
            for (value, two) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *value = f32::from_bits(u32::from(u16::from_le_bytes([two[0], two[1]])) << 16);
            }
        }
        _ => {
            let halves: Vec<f16> = bytes.chunks_exact(2).map(|two| f16::from_le_bytes([two[0], two[1]])).collect();
            halves.convert_to_f32_slice(out);
        }
    }
}
