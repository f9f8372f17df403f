//! Reading the folder that a run left.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use frostline_schemas::digest::Digest;
use frostline_schemas::files;
use frostline_schemas::model::{DecoderConfig, ModelFolder, ModelIdentity, TensorSpec, TensorView};
use frostline_schemas::run::{BASE_KEY, PLAN_KEY, RunRecord, SETTINGS_FILE, TrainingMethod, VERSION};
use safetensors::SafeTensors;

use crate::error::Error;
use crate::model::Adapter;
use crate::model::Model;
use crate::model::Scope;
use crate::model::{ComputePrecision, Parameters};
use crate::system::Device;

/// The largest settings file read, in bytes.
const MAX_SETTINGS: u64 = 1 << 20;

/// A run that ended.
pub struct Run {
    /// Its folder.
    pub folder: PathBuf,
    /// What its settings file says.
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
    pub fn changed<'a>(&'a self, model: &'a ModelFolder) -> Result<ChangedTensors<'a>, Error> {
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
    /// As for [`apply`](Run::apply) and [`Model::open`].
    pub fn model(
        &self,
        folder: ModelFolder,
        device: Device,
        precision: Option<ComputePrecision>,
    ) -> Result<Model, Error> {
        let identity = folder.identity()?;
        self.check_model(&identity)?;
        let scope = self.adapters(&folder.config)?;
        let mut model = Model::open(folder, scope, device, precision)?;
        self.apply(&identity, model.parameters_mut())?;
        Ok(model)
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
pub type ChangedTensors<'a> = Box<dyn Iterator<Item = Result<(String, Tensor), Error>> + 'a>;

fn read_record(path: &Path) -> Result<RunRecord, Error> {
    let bad = |reason: String| Error::Run { path: path.into(), reason };
    let text = files::read_at_most(path, MAX_SETTINGS).map_err(Error::file(path))?;
    let record: RunRecord = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    match record.version {
        VERSION => Ok(record),
        version => Err(bad(format!("version {version} is not known; this frostline reads version {VERSION}"))),
    }
}
