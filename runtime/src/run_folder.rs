//! The folder that a run leaves: settings, metrics, and the trained tensors alone.
//!
//! `settings.json` is there from the start, `metrics.jsonl` grows by a line a step, `trained.safetensors` appears whole
//! when training is done. A folder without it is a run that did not end.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use frostline_schemas::canonical;
use frostline_schemas::digest::Digest;
use frostline_schemas::files;
use frostline_schemas::folder::ModelIdentity;
use frostline_schemas::run::{
    BASE_KEY, METRICS_FILE, PLAN_KEY, RunRecord, SETTINGS_FILE, StepMetrics, TRAINED_FILE, VERSION,
};
use frostline_schemas::weights::{Dtype, TensorView};
use safetensors::SafeTensors;

use crate::error::Error;
use crate::ops::cpu;
use crate::parameters::Parameters;
use crate::tensor_file::{self, Entry};
use crate::train::{Observer, Start, Trained};

/// The largest settings file read, in bytes.
const MAX_SETTINGS: u64 = 1 << 20;

/// A run folder that is being written. As an [`Observer`] it begins the folder when training begins, so that what is
/// refused before the first step leaves nothing behind, and writes down the metrics.
#[derive(Debug)]
pub struct RunWriter {
    folder: PathBuf,
    record: RunRecord,
    metrics: Option<File>,
}

impl RunWriter {
    /// Prepares to write a run folder.
    ///
    /// # Errors
    /// [`Error::Exists`] where there is anything already.
    pub fn new(folder: &Path, record: RunRecord) -> Result<RunWriter, Error> {
        if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
            return Err(Error::Exists(folder.into()));
        }
        Ok(RunWriter { folder: folder.into(), record, metrics: None })
    }

    /// Writes the trained tensors; the run is whole then.
    pub fn finish(self, trained: &Trained) -> Result<(), Error> {
        if let Some(metrics) = &self.metrics {
            metrics.sync_all().map_err(Error::file(self.folder.join(METRICS_FILE)))?;
        }
        let path = self.folder.join(TRAINED_FILE);
        write_trained(&path, &trained.parameters, self.record.plan, trained.base_weights)
    }

    /// What the run writes down of itself.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }
}

impl Observer for RunWriter {
    fn started(&mut self, _: &Start) -> Result<(), Error> {
        std::fs::create_dir_all(&self.folder).map_err(Error::file(&self.folder))?;
        let settings = self.folder.join(SETTINGS_FILE);
        let text = canonical::to_text(&self.record).map_err(|error| Error::file(&settings)(error.into()))?;
        files::write_bytes(&settings, text.as_bytes()).map_err(Error::file(&settings))?;
        let metrics = self.folder.join(METRICS_FILE);
        self.metrics = Some(File::create_new(&metrics).map_err(Error::file(&metrics))?);
        Ok(())
    }

    fn step(&mut self, metrics: &StepMetrics) -> Result<(), Error> {
        let failed = Error::file(self.folder.join(METRICS_FILE));
        let file = self.metrics.as_mut().ok_or(Error::Internal("a run that has begun"))?;
        let line = serde_json::to_string(metrics).map_err(std::io::Error::from).map(|line| line + "\n");
        line.and_then(|line| file.write_all(line.as_bytes())).map_err(failed)
    }
}

fn write_trained(path: &Path, parameters: &Parameters, plan: Digest, base: Digest) -> Result<(), Error> {
    let mut tensors = BTreeMap::new();
    for (name, tensor) in parameters.trained() {
        tensors.insert(name, tensor?);
    }
    let entry = |(name, tensor): (&&str, &&Tensor)| Entry {
        name: (*name).to_owned(),
        dtype: Dtype::F32,
        shape: tensor.dims().to_vec(),
    };
    let entries = tensors.iter().map(entry).collect();
    let metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        (PLAN_KEY.to_owned(), plan.to_string()),
        (BASE_KEY.to_owned(), base.to_string()),
    ]);
    let content = |entry: &Entry| {
        let bytes = tensors.get(entry.name.as_str()).map(|tensor| little_endian(tensor));
        bytes.unwrap_or_else(|| Ok(Vec::new())).map(Cow::Owned)
    };
    tensor_file::write(path, entries, &metadata, content).map_err(Error::file(path))
}

fn little_endian(tensor: &Tensor) -> std::io::Result<Vec<u8>> {
    let bytes = tensor.to_device(&candle_core::Device::Cpu).and_then(|tensor| {
        cpu::with_slices([&tensor], |[values]| values.iter().flat_map(|value| value.to_le_bytes()).collect())
    });
    bytes.map_err(std::io::Error::other)
}

/// A run that ended.
pub struct Run {
    pub folder: PathBuf,
    pub record: RunRecord,
    map: memmap2::Mmap,
    names: Vec<String>,
}

impl Run {
    /// Opens a run folder and checks that it is whole. Trained tensors are memory-mapped.
    ///
    /// # Errors
    /// [`Error::Run`] where training did not end or a file is not what it should be.
    pub fn open(folder: &Path) -> Result<Run, Error> {
        let record = read_record(&folder.join(SETTINGS_FILE))?;
        let path = folder.join(TRAINED_FILE);
        let bad = |reason: String| Error::Run { path: path.clone(), reason };
        if !path.exists() {
            return Err(bad("is not there: training has not ended; train again into another folder".into()));
        }
        let map = files::map(&path).map_err(Error::file(&path))?;
        let (_, header) = SafeTensors::read_metadata(&map).map_err(|error| bad(error.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let digest = |key: &str| {
            let text = metadata.get(key).ok_or_else(|| bad(format!("its metadata has no `{key}`")))?;
            text.parse::<Digest>().map_err(|error| bad(format!("`{key}` in its metadata: {error}")))
        };
        if digest(PLAN_KEY)? != record.plan {
            return Err(bad(format!("was trained by another plan than {SETTINGS_FILE} names")));
        }
        if digest(BASE_KEY)? != record.model.weights {
            return Err(bad(format!("was trained from other weights than {SETTINGS_FILE} names")));
        }
        let mut names: Vec<String> = header.tensors().into_keys().collect();
        names.sort();
        Ok(Run { folder: folder.into(), record, map, names })
    }

    /// Names of the trained tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The trained tensors by name, sorted.
    pub fn tensors(&self) -> Result<BTreeMap<&str, TrainedTensor>, Error> {
        let path = self.folder.join(TRAINED_FILE);
        let bad = |reason: String| Error::Run { path: path.clone(), reason };
        let file = SafeTensors::deserialize(&self.map).map_err(|error| bad(error.to_string()))?;
        let read = |name: &String| -> Result<TrainedTensor, Error> {
            let view = file.tensor(name).map_err(|error| bad(error.to_string()))?;
            let view = TensorView { dtype: view.dtype(), shape: view.shape(), bytes: view.data() };
            let not_float = || Error::NotFloat { name: name.clone(), dtype: view.dtype };
            Ok(TrainedTensor { shape: view.shape.to_vec(), values: view.to_f32().ok_or_else(not_float)? })
        };
        self.names.iter().map(|name| read(name).map(|tensor| (name.as_str(), tensor))).collect()
    }

    /// Puts the trained tensors in the place of the model's own; `model` is the identity of the model that the
    /// parameters are from.
    ///
    /// # Errors
    /// As for [`check_model`](Run::check_model); [`Error::UnknownTensors`] or [`Error::TensorShape`] where a tensor is
    /// none of the model's.
    pub fn apply(&self, model: &ModelIdentity, parameters: &mut Parameters) -> Result<(), Error> {
        self.check_model(model)?;
        for (name, TrainedTensor { shape, values }) in self.tensors()? {
            parameters.replace(name, Tensor::from_vec(values, shape, &candle_core::Device::Cpu)?)?;
        }
        Ok(())
    }

    /// Checks that this is the model that the run began from: weights, config and tokenizer.
    ///
    /// # Errors
    /// [`Error::OtherModel`] with all that differs.
    pub fn check_model(&self, model: &ModelIdentity) -> Result<(), Error> {
        let differences = self.record.model.differences(model);
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::OtherModel { run: self.folder.clone(), model: self.record.model_folder.clone(), differences })
    }
}

/// A trained tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainedTensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

fn read_record(path: &Path) -> Result<RunRecord, Error> {
    let bad = |reason: String| Error::Run { path: path.into(), reason };
    let text = files::read_at_most(path, MAX_SETTINGS).map_err(Error::file(path))?;
    let record: RunRecord = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    match record.version {
        VERSION => Ok(record),
        version => Err(bad(format!("version {version} is not known; this frostline reads version {VERSION}"))),
    }
}
