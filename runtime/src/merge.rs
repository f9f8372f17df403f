//! A run and its model → a complete folder as Hugging Face saves it.
//!
//! Tensors that were not trained keep every bit; trained ones take the type that the model's files have, unless another
//! is asked for. Nothing is read whole: tensors go from the memory map to the file one by one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use frostline_schemas::files;
use frostline_schemas::weights::{Dtype, INDEX_FILE, TensorView, Weights};
use half::{bf16, f16};
use safetensors::SafeTensors;
use serde_json::{Value as Json, json};

use crate::error::Error;
use crate::run_folder::{Run, TrainedTensor};
use crate::tensor_file::{self, Entry};

/// What was written, and what rounding took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Trained tensors put in.
    pub tensors: usize,
    /// Safetensors files written.
    pub files: usize,
    /// ‖w − w₀‖ over all trained tensors: how far training moved them.
    pub change: f64,
    /// ‖round(w) − w‖ over all trained tensors: what the file's type could not hold.
    pub rounding: f64,
}

impl Report {
    /// ‖round(w) − w‖ / ‖w − w₀‖; 0 where nothing changed.
    pub fn lost(&self) -> f64 {
        if self.change > 0.0 { self.rounding / self.change } else { 0.0 }
    }
}

/// Writes the model in `model` with the run's tensors in place to `out`, whole or not at all.
///
/// `dtype` casts every float tensor to F32, BF16 or F16; without it each tensor keeps its type.
///
/// # Errors
/// [`Error::Exists`] where `out` does, [`Error::BaseWeights`] where the run began from other weights,
/// [`Error::UnknownTensors`] and [`Error::TensorShape`] where a tensor is none of the model's.
pub fn merge(run: &Run, model: &Path, out: &Path, dtype: Option<Dtype>) -> Result<Report, Error> {
    if out.exists() {
        return Err(Error::Exists(out.into()));
    }
    if let Some(dtype) = dtype.filter(|dtype| !is_float(*dtype)) {
        let reason = "weights can be written as F32, BF16 or F16";
        return Err(Error::Setting { field: "dtype", value: dtype.to_string(), reason });
    }
    let weights = Weights::open(model)?;
    run.check_base(model, weights.digest())?;
    let merged = Merged::new(&weights, run, dtype)?;
    let temporary = temporary_beside(out)?;
    let written = std::fs::create_dir_all(&temporary)
        .map_err(Error::file(&temporary))
        .and_then(|()| merged.write(model, &temporary))
        .and_then(|()| std::fs::rename(&temporary, out).map_err(Error::file(out)));
    if let Err(error) = written {
        // What failed is reported; that the half-written folder could not be removed either would only hide it.
        let _ = std::fs::remove_dir_all(&temporary);
        return Err(error);
    }
    Ok(merged.report)
}

fn temporary_beside(out: &Path) -> Result<PathBuf, Error> {
    let name = out.file_name().ok_or_else(|| Error::Exists(out.into()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.tmp", std::process::id()));
    Ok(out.with_file_name(hidden))
}

/// A model's files with a run's tensors in place.
struct Merged<'a> {
    weights: &'a Weights,
    dtype: Option<Dtype>,
    /// By the name that the files give them.
    trained: BTreeMap<&'a str, TrainedTensor>,
    report: Report,
}

impl<'a> Merged<'a> {
    fn new(weights: &'a Weights, run: &'a Run, dtype: Option<Dtype>) -> Result<Merged<'a>, Error> {
        let mut merged = Merged { weights, dtype, trained: BTreeMap::new(), report: Report::default() };
        let (mut change, mut rounding) = (0.0, 0.0);
        for (name, tensor) in run.tensors()? {
            let unknown = || Error::UnknownTensors { names: vec![name.to_owned()] };
            let spelling = weights.spelling(name).ok_or_else(unknown)?;
            let before = weights.require(spelling)?;
            if before.shape != tensor.shape {
                let (found, expected) = (tensor.shape, before.shape.to_vec());
                return Err(Error::TensorShape { name: name.to_owned(), found, expected });
            }
            let not_float = || Error::NotFloat { name: name.to_owned(), dtype: before.dtype };
            let old = before.to_f32().ok_or_else(not_float)?;
            let dtype = merged.dtype_of(before.dtype);
            change += sum_of_squares(tensor.values.iter().zip(&old).map(|(new, old)| new - old));
            rounding += sum_of_squares(tensor.values.iter().map(|&value| rounded(value, dtype) - value));
            merged.trained.insert(spelling, tensor);
        }
        merged.report.tensors = merged.trained.len();
        merged.report.files = weights.shards().len();
        (merged.report.change, merged.report.rounding) = (change.sqrt(), rounding.sqrt());
        Ok(merged)
    }

    fn dtype_of(&self, before: Dtype) -> Dtype {
        self.dtype.filter(|_| is_float(before)).unwrap_or(before)
    }

    fn write(&self, model: &Path, out: &Path) -> Result<(), Error> {
        copy_others(model, out)?;
        let mut bytes = 0;
        for (file, names) in self.weights.shards() {
            bytes += self.write_shard(model, out, file, &names)?;
        }
        if model.join(INDEX_FILE).exists() && self.weights.shards().len() > 1 {
            edit_json(&model.join(INDEX_FILE), &out.join(INDEX_FILE), |index| {
                index["metadata"]["total_size"] = json!(bytes)
            })?;
        }
        match self.dtype {
            Some(dtype) => edit_json(&model.join("config.json"), &out.join("config.json"), |config| {
                let old = config.get("torch_dtype").is_some();
                config[if old { "torch_dtype" } else { "dtype" }] = json!(config_name(dtype));
            }),
            None => Ok(()),
        }
    }

    /// Writes one file; returns the bytes of its tensors.
    fn write_shard(&self, model: &Path, out: &Path, file: &str, names: &[&str]) -> Result<u64, Error> {
        let mut entries = Vec::new();
        let mut total = 0;
        for name in names {
            let view = self.weights.require(name)?;
            let entry =
                Entry { name: (*name).to_owned(), dtype: self.dtype_of(view.dtype), shape: view.shape.to_vec() };
            total += entry.bytes() as u64;
            entries.push(entry);
        }
        let path = out.join(file);
        let content = |entry: &Entry| self.content(entry);
        tensor_file::write(&path, entries, &metadata(&model.join(file))?, content).map_err(Error::file(&path))?;
        Ok(total)
    }

    fn content(&self, entry: &Entry) -> io::Result<Cow<'_, [u8]>> {
        if let Some(tensor) = self.trained.get(entry.name.as_str()) {
            return Ok(Cow::Owned(cast(&tensor.values, entry.dtype)));
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

/// Copies what lies beside the weights: config, tokenizer, licence, model card.
fn copy_others(from: &Path, to: &Path) -> Result<(), Error> {
    for entry in std::fs::read_dir(from).map_err(Error::file(from))? {
        let entry = entry.map_err(Error::file(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if source.is_dir() {
            if !name.starts_with('.') && name != "onnx" {
                std::fs::create_dir(&target).map_err(Error::file(&target))?;
                copy_others(&source, &target)?;
            }
        } else if !is_weights(&name) {
            std::fs::copy(&source, &target).map_err(Error::file(&source))?;
        }
    }
    Ok(())
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

fn edit_json(from: &Path, to: &Path, edit: impl FnOnce(&mut Json)) -> Result<(), Error> {
    let bad = |error: serde_json::Error| Error::Run { path: from.into(), reason: error.to_string() };
    let text = std::fs::read(from).map_err(Error::file(from))?;
    let mut json: Json = serde_json::from_slice(&text).map_err(bad)?;
    if !json.is_object() {
        return Err(Error::Run { path: from.into(), reason: "not a JSON object".into() });
    }
    edit(&mut json);
    let text = serde_json::to_string_pretty(&json).map_err(bad)? + "\n";
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

fn rounded(value: f32, dtype: Dtype) -> f32 {
    match dtype {
        Dtype::BF16 => bf16::from_f32(value).to_f32(),
        Dtype::F16 => f16::from_f32(value).to_f32(),
        _ => value,
    }
}

fn cast(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::BF16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

fn sum_of_squares(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|value| f64::from(value) * f64::from(value)).sum()
}
