//! The folder that a run leaves: settings, metrics, and the trained tensors alone.
//!
//! `settings.json` is there from the start, `metrics.jsonl` grows by a line a step, `trained.safetensors` appears whole
//! when training is done. A folder without it is a run that did not end. Adapters lie in `adapter_model.safetensors` in
//! its place, with `adapter_config.json` beside it, as PEFT keeps them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use frostline_schemas::canonical;
use frostline_schemas::digest::Digest;
use frostline_schemas::files;
use frostline_schemas::model::{DecoderConfig, TensorSpec};
use frostline_schemas::model::{Dtype, TensorView};
use frostline_schemas::model::{ModelFolder, ModelIdentity};
use frostline_schemas::run::{
    ADAPTER_CONFIG_FILE, BASE_KEY, METRICS_FILE, PLAN_KEY, RunRecord, SETTINGS_FILE, StepMetrics, TrainingMethod,
    VERSION,
};
use safetensors::SafeTensors;

use crate::error::Error;
use crate::model::adapters::Adapter;
use crate::model::adapters::peft;
use crate::model::decoder::Decoder;
use crate::model::parameters::{ComputePrecision, Parameters};
use crate::model::scope::Scope;
use crate::ops::cpu;
use crate::run::tensor_file::{self, Entry};
use crate::system::device::Device;
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
    pub fn finish(&mut self, trained: &Trained) -> Result<(), Error> {
        if let Some(metrics) = &self.metrics {
            metrics.sync_all().map_err(Error::file(self.folder.join(METRICS_FILE)))?;
        }
        if let TrainingMethod::Lora(lora) = &self.record.training.method {
            let adapters: Vec<&Adapter> = trained.decoder.scope().adapters().collect();
            let config = peft::config(&adapters, lora, &self.record.model_folder);
            write_json(&self.folder.join(ADAPTER_CONFIG_FILE), &config)?;
        }
        let path = self.folder.join(self.record.training.method.file());
        write_trained(&path, &trained.parameters, self.record.plan, trained.base_weights)
    }
}

impl Observer for RunWriter {
    fn started(&mut self, _: &Start) -> Result<(), Error> {
        std::fs::create_dir_all(&self.folder).map_err(Error::file(&self.folder))?;
        write_json(&self.folder.join(SETTINGS_FILE), &self.record)?;
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

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), Error> {
    let text = canonical::to_text(value).map_err(|error| Error::file(path)(error.into()))?;
    files::write_bytes(path, text.as_bytes()).map_err(Error::file(path))
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
        let path = folder.join(record.training.method.file());
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

    /// The file that holds the trained tensors.
    fn path(&self) -> PathBuf {
        self.folder.join(self.record.training.method.file())
    }

    /// A trained tensor.
    fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        let bad = |error: safetensors::SafeTensorError| Error::Run { path: self.path(), reason: error.to_string() };
        let view = SafeTensors::deserialize(&self.map).and_then(|file| file.tensor(name)).map_err(bad)?;
        let view = TensorView { dtype: view.dtype(), shape: view.shape(), bytes: view.data() };
        let not_float = || Error::NotFloat { name: name.to_owned(), dtype: view.dtype };
        Ok(Tensor::from_vec(view.to_f32().ok_or_else(not_float)?, view.shape, &candle_core::Device::Cpu)?)
    }

    /// A trained tensor in the shape that it must have.
    fn tensor_of(&self, spec: &TensorSpec) -> Result<Tensor, Error> {
        let tensor = self.tensor(&spec.name)?;
        if tensor.dims() == spec.shape {
            return Ok(tensor);
        }
        let (name, found, expected) = (spec.name.clone(), tensor.dims().to_vec(), spec.shape.clone());
        Err(Error::TensorShape { name, found, expected })
    }

    /// The tensors of the model that training changed, by name: as trained, or with adapters added to them.
    ///
    /// # Errors
    /// As for [`apply`](Run::apply).
    pub fn changed<'a>(&'a self, model: &'a ModelFolder) -> Result<Changed<'a>, Error> {
        self.check_model(&model.identity()?)?;
        let scope = self.adapters(&model.config)?;
        if let TrainingMethod::Full = self.record.training.method {
            return Ok(Box::new(self.names().map(|name| Ok((name.to_owned(), self.tensor(name)?)))));
        }
        let adapters: Vec<Adapter> = scope.adapters().cloned().collect();
        Ok(Box::new(adapters.into_iter().map(|adapter| {
            let spec = &adapter.linear().weight;
            let weight = model.weights.load_f32(&spec.name)?;
            let weight = Tensor::from_vec(weight, spec.shape.as_slice(), &candle_core::Device::Cpu)?;
            let [a, b] = adapter.tensors().map(|spec| self.tensor_of(spec));
            adapter.add_to_weight(&weight, &a?, &b?)?;
            Ok((spec.name.clone(), weight))
        })))
    }

    /// The scope of the run's adapters; nothing where it has none.
    fn adapters(&self, config: &DecoderConfig) -> Result<Scope, Error> {
        let method = &self.record.training.method;
        if let TrainingMethod::Full = method {
            return Ok(Scope::nothing());
        }
        // Plans may have gaps, so it is the file that says which of the layers have adapters.
        let scope = Scope::everything(config).by(config, method)?.adapters_among(self.names());
        let RunRecord { frost_line, trained_parameters, .. } = self.record;
        if frost_line >= config.layers.len() {
            return Err(Error::FrostLine { frost_line, layers: config.layers.len() });
        }
        let told = scope.parameters(config) == trained_parameters && scope.frost_line(config) >= frost_line;
        if told && scope.names().eq(self.names()) {
            return Ok(scope);
        }
        let reason = format!("does not hold the adapters that {SETTINGS_FILE} tells of");
        Err(Error::Run { path: self.path(), reason })
    }

    /// The trained model: the run's tensors in the place of the model's own, or its adapters beside them.
    ///
    /// # Errors
    /// As for [`apply`](Run::apply) and [`Decoder::open`].
    pub fn decoder(
        &self,
        model: ModelFolder,
        device: Device,
        precision: Option<ComputePrecision>,
    ) -> Result<(Decoder, Parameters), Error> {
        let identity = model.identity()?;
        self.check_model(&identity)?;
        let scope = self.adapters(&model.config)?;
        let (decoder, mut parameters) = Decoder::open(model, scope, device, precision)?;
        self.apply(&identity, &mut parameters)?;
        Ok((decoder, parameters))
    }

    /// Puts the trained tensors in the place of the model's own; `model` is the identity of the model that the
    /// parameters are from.
    ///
    /// # Errors
    /// As for [`check_model`](Run::check_model); [`Error::UnknownTensors`] or [`Error::TensorShape`] where a tensor is
    /// none of the model's.
    pub fn apply(&self, model: &ModelIdentity, parameters: &mut Parameters) -> Result<(), Error> {
        self.check_model(model)?;
        for name in self.names() {
            parameters.replace(name, self.tensor(name)?)?;
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

/// Names and values of changed tensors, f32 on the CPU.
pub type Changed<'a> = Box<dyn Iterator<Item = Result<(String, Tensor), Error>> + 'a>;

fn read_record(path: &Path) -> Result<RunRecord, Error> {
    let bad = |reason: String| Error::Run { path: path.into(), reason };
    let text = files::read_at_most(path, MAX_SETTINGS).map_err(Error::file(path))?;
    let record: RunRecord = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    match record.version {
        VERSION => Ok(record),
        version => Err(bad(format!("version {version} is not known; this frostline reads version {VERSION}"))),
    }
}
