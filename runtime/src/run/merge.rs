//! A run and its model → a complete folder as Hugging Face saves it.
//!
//! Tensors that were not trained keep every bit; trained ones stay in the f32 that they were trained in, unless another
//! type is asked for. Trained tensors are held in memory; all others go from the memory map to the file one by one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use frostline_schemas::files;
use frostline_schemas::model::ModelFolder;
use frostline_schemas::model::{Dtype, INDEX_FILE, SINGLE_FILE, TensorView, Weights};
use frostline_schemas::run::{ADAPTER_FILE, TRAINED_FILE};
use half::{bf16, f16};
use safetensors::SafeTensors;
use serde_json::{Map, Value as Json, json};

use crate::error::Error;
use crate::run::reader::Run;
use crate::run::tensor_file::{self, Entry};

const CONFIG_FILE: &str = "config.json";
/// The largest index or config read, in bytes: a thousand times that of any known model.
const MAX_JSON: u64 = 1 << 28;

/// What was written, and what rounding took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MergeReport {
    /// Trained tensors put in.
    pub tensors: usize,
    /// Safetensors files written.
    pub files: usize,
    /// ‖w − w₀‖ over all trained tensors: how far training moved them.
    pub change: f64,
    /// ‖round(w) − w‖ over all trained tensors: what the file's type could not hold.
    pub rounding: f64,
}

impl MergeReport {
    /// ‖round(w) − w‖ / ‖w − w₀‖; 0 where nothing changed.
    pub fn lost(&self) -> f64 {
        if self.change > 0.0 { self.rounding / self.change } else { 0.0 }
    }
}

/// The types in which a merged model's tensors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeTypes {
    /// Trained tensors in f32, as they were trained, all others as they were: nothing is lost.
    Exact,
    /// Every tensor as it was, trained ones rounded to that.
    Source,
    /// Every float tensor cast to F32, BF16 or F16.
    All(Dtype),
}

/// Writes the model in `model` with the run's tensors in place to `out`, whole or not at all.
///
/// # Errors
/// [`Error::Exists`] where `out` does, [`Error::OtherModel`] where the run began from another model,
/// [`Error::UnknownTensors`] and [`Error::TensorShape`] where a tensor is none of the model's.
pub fn merge(run: &Run, model: &Path, out: &Path, types: MergeTypes) -> Result<MergeReport, Error> {
    if out.exists() {
        return Err(Error::Exists(out.into()));
    }
    files::check_folder_place(out).map_err(Error::file(out))?;
    if let MergeTypes::All(dtype) = types
        && !is_float(dtype)
    {
        let reason = "weights can be written as F32, BF16 or F16";
        return Err(Error::Setting { field: "dtype", value: dtype.to_string(), reason });
    }
    let model = ModelFolder::open(model)?;
    let merged = Merged::new(&model, run, types)?;
    let temporary = files::folder_beside(out).map_err(Error::file(out))?;
    merged.write(&model.path, temporary.path())?;
    std::fs::rename(temporary.path(), out).map_err(Error::file(out))?;
    // What is at its old path is no longer there to be removed.
    let _ = temporary.keep();
    files::sync_folder_of(out).map_err(Error::file(out))?;
    Ok(merged.report)
}

/// A model's files with a run's tensors in place.
struct Merged<'a> {
    weights: &'a Weights,
    types: MergeTypes,
    /// Elements as they are written, by the name that the files give their tensor.
    trained: BTreeMap<String, Vec<u8>>,
    report: MergeReport,
}

impl<'a> Merged<'a> {
    fn new(model: &'a ModelFolder, run: &Run, types: MergeTypes) -> Result<Merged<'a>, Error> {
        let weights = &model.weights;
        let mut merged = Merged { weights, types, trained: BTreeMap::new(), report: MergeReport::default() };
        let (mut change, mut rounding) = (0.0, 0.0);
        for changed in run.changed(model)? {
            let (name, tensor) = changed?;
            let unknown = || Error::UnknownTensors { names: vec![name.clone()] };
            let on_disk_name = weights.on_disk_name(&name).ok_or_else(unknown)?;
            let before = weights.require(on_disk_name)?;
            if before.shape != tensor.dims() {
                let (found, expected) = (tensor.dims().to_vec(), before.shape.to_vec());
                return Err(Error::TensorShape { name, found, expected });
            }
            let not_float = || Error::NotFloat { name: name.clone(), dtype: before.dtype };
            let old = before.to_f32().ok_or_else(not_float)?;
            let new: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
            let dtype = merged.dtype_of(before.dtype, true);
            let bytes = cast(&new, dtype);
            let written = TensorView { dtype, shape: before.shape, bytes: &bytes }.to_f32().ok_or_else(not_float)?;
            change += squared_distance(&new, &old);
            rounding += squared_distance(&new, &written);
            merged.trained.insert(on_disk_name.to_owned(), bytes);
        }
        merged.report.tensors = merged.trained.len();
        merged.report.files = weights.shards().len();
        (merged.report.change, merged.report.rounding) = (change.sqrt(), rounding.sqrt());
        Ok(merged)
    }

    /// The type in which a tensor is written.
    fn dtype_of(&self, before: Dtype, trained: bool) -> Dtype {
        match self.types {
            MergeTypes::Exact if trained => Dtype::F32,
            MergeTypes::All(dtype) if is_float(before) => dtype,
            _ => before,
        }
    }

    fn write(&self, model: &Path, out: &Path) -> Result<(), Error> {
        copy_others(model, out, &out.canonicalize().map_err(Error::file(out))?)?;
        let mut bytes = 0;
        for (file, names) in self.weights.shards() {
            bytes += self.write_shard(model, out, file, &names)?;
        }
        // However few files an index names, without it they are not found.
        if !model.join(SINGLE_FILE).exists() {
            edit_json(&model.join(INDEX_FILE), &out.join(INDEX_FILE), |index| {
                let metadata = index.entry("metadata").or_insert_with(|| json!({}));
                let metadata = metadata.as_object_mut().ok_or("`metadata` is not a JSON object")?;
                metadata.insert("total_size".into(), json!(bytes));
                Ok(())
            })?;
        }
        match self.types {
            MergeTypes::All(dtype) => edit_json(&model.join(CONFIG_FILE), &out.join(CONFIG_FILE), |config| {
                let key = if config.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
                config.insert(key.into(), json!(config_name(dtype)));
                Ok(())
            }),
            MergeTypes::Exact | MergeTypes::Source => Ok(()),
        }
    }

    /// Writes one file; returns the bytes of its tensors.
    fn write_shard(&self, model: &Path, out: &Path, file: &str, names: &[&str]) -> Result<u64, Error> {
        let mut entries = Vec::new();
        let mut total = 0;
        for name in names {
            let view = self.weights.require(name)?;
            let entry = Entry {
                name: (*name).to_owned(),
                dtype: self.dtype_of(view.dtype, self.trained.contains_key(*name)),
                shape: view.shape.to_vec(),
            };
            total += entry.bytes() as u64;
            entries.push(entry);
        }
        let path = out.join(file);
        let content = |entry: &Entry| self.content(entry);
        tensor_file::write(&path, entries, &metadata(&model.join(file))?, content).map_err(Error::file(&path))?;
        Ok(total)
    }

    fn content(&self, entry: &Entry) -> io::Result<Cow<'_, [u8]>> {
        if let Some(bytes) = self.trained.get(entry.name.as_str()) {
            return Ok(Cow::Borrowed(bytes));
        }
        let gone = || io::Error::other(format!("tensor `{}` cannot be read", entry.name));
        let view: TensorView = self.weights.get(&entry.name).ok_or_else(gone)?;
        if view.dtype == entry.dtype {
            return Ok(Cow::Borrowed(view.bytes));
        }
        Ok(Cow::Owned(cast(&view.to_f32().ok_or_else(gone)?, entry.dtype)))
    }
}

/// The source file's own metadata; `format` says that names and layouts are PyTorch's, which transformers insists on.
fn metadata(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let map = files::map(path).map_err(Error::file(path))?;
    let bad = |error: safetensors::SafeTensorError| Error::Run { path: path.into(), reason: error.to_string() };
    let (_, header) = SafeTensors::read_metadata(&map).map_err(bad)?;
    let mut metadata: BTreeMap<String, String> = header.metadata().clone().unwrap_or_default().into_iter().collect();
    metadata.entry("format".into()).or_insert_with(|| "pt".into());
    Ok(metadata)
}

/// Copies what lies beside the weights: config, tokenizer, licence, model card. Links to files are copied as files, as
/// the cache of Hugging Face is made of them; links to folders are left out, as they may lead anywhere and in circles.
fn copy_others(from: &Path, to: &Path, out: &Path) -> Result<(), Error> {
    for entry in std::fs::read_dir(from).map_err(Error::file(from))? {
        let entry = entry.map_err(Error::file(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if entry.file_type().map_err(Error::file(&source))?.is_dir() {
            if belongs_to_model(&source, &name, out)? {
                std::fs::create_dir(&target).map_err(Error::file(&target))?;
                copy_others(&source, &target, out)?;
            }
        } else if !is_weights(&name) && std::fs::metadata(&source).map_err(Error::file(&source))?.is_file() {
            copy_file(&source, &target)?;
        }
    }
    files::sync_folder(to).map_err(Error::file(to))
}

/// Whether a subfolder is part of the model: neither hidden, nor exports, nor a run, nor what is being written.
fn belongs_to_model(folder: &Path, name: &str, out: &Path) -> Result<bool, Error> {
    if name.starts_with('.') || name == "onnx" || is_run(folder) {
        return Ok(false);
    }
    Ok(folder.canonicalize().map_err(Error::file(folder))? != out)
}

fn is_run(folder: &Path) -> bool {
    [TRAINED_FILE, ADAPTER_FILE].iter().any(|file| folder.join(file).exists())
}

/// Copies content, not permissions: a cache's files are often read-only.
fn copy_file(from: &Path, to: &Path) -> Result<(), Error> {
    let mut source = File::open(from).map_err(Error::file(from))?;
    let copied = File::create_new(to).and_then(|mut target| {
        io::copy(&mut source, &mut target)?;
        target.sync_all()
    });
    copied.map_err(Error::file(to))
}

/// Whether a file holds weights or an export of them, which would be out of date in the merged folder.
fn is_weights(name: &str) -> bool {
    const ENDINGS: [&str; 11] = [
        ".safetensors",
        ".safetensors.index.json",
        ".bin",
        ".bin.index.json",
        ".pt",
        ".pth",
        ".ckpt",
        ".h5",
        ".msgpack",
        ".gguf",
        ".onnx",
    ];
    ENDINGS.iter().any(|ending| name.ends_with(ending)) || name.contains(".onnx.") || name.contains(".onnx_")
}

fn edit_json(
    from: &Path,
    to: &Path,
    edit: impl FnOnce(&mut Map<String, Json>) -> Result<(), &'static str>,
) -> Result<(), Error> {
    let bad = |reason: String| Error::Run { path: from.into(), reason };
    let text = files::read_at_most(from, MAX_JSON).map_err(Error::file(from))?;
    let mut fields: Map<String, Json> = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    edit(&mut fields).map_err(|reason| bad(reason.into()))?;
    let text = serde_json::to_string_pretty(&fields).map_err(|error| bad(error.to_string()))? + "\n";
    files::write_bytes(to, text.as_bytes()).map_err(Error::file(to))
}

fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16)
}

/// What `config.json` calls a type.
fn config_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::BF16 => "bfloat16",
        Dtype::F16 => "float16",
        _ => "float32",
    }
}

/// Elements in a float type, little-endian.
fn cast(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::BF16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

/// Σ (a − b)².
fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}
