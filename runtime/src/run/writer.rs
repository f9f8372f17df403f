//! Writing the folder that a run leaves: settings, metrics, and the trained tensors alone.
//!
//! `settings.json` is there from the start, `metrics.jsonl` grows by a line a step, `trained.safetensors` appears whole
//! when training is done. A folder without it is a run that did not end. Adapters lie in `adapter_model.safetensors` in
//! its place, with `adapter_config.json` beside it, as PEFT keeps them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use frostline_schemas::canonical;
use frostline_schemas::digest::Digest;
use frostline_schemas::files;
use frostline_schemas::model::Dtype;
use frostline_schemas::run::{
    ADAPTER_CONFIG_FILE, BASE_KEY, METRICS_FILE, PLAN_KEY, RunRecord, SETTINGS_FILE, TrainingMethod,
};

use crate::error::Error;
use crate::model::Parameters;
use crate::model::{Adapter, peft};
use crate::ops::cpu;
use crate::run::tensor_file::{self, Entry};
use crate::train::{Hook, Start, Step, Trained};

/// A run folder that is being written. As a [`Hook`] it begins the folder when training begins, so that what is
/// refused before the first step leaves nothing behind, and writes down the metrics.
#[derive(Debug)]
pub struct RunWriter {
    folder: PathBuf,
    record: RunRecord,
    metrics: Option<File>,
}

impl RunWriter {
    /// Refuses a place where no run folder can be made.
    ///
    /// # Errors
    /// [`Error::Exists`] where there is anything already; [`Error::File`] where what the folder is to lie in is no folder,
    /// or may not be written in.
    pub fn check_place(folder: &Path) -> Result<(), Error> {
        if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
            return Err(Error::Exists(folder.into()));
        }
        files::check_folder_place(folder).map_err(Error::file(folder))
    }

    /// Prepares to write a run folder.
    ///
    /// # Errors
    /// As for [`RunWriter::check_place`].
    pub fn new(folder: &Path, record: RunRecord) -> Result<RunWriter, Error> {
        RunWriter::check_place(folder)?;
        Ok(RunWriter { folder: folder.into(), record, metrics: None })
    }
}

impl Hook for RunWriter {
    fn started(&mut self, _: &Start) -> Result<(), Error> {
        std::fs::create_dir_all(&self.folder).map_err(Error::file(&self.folder))?;
        write_json(&self.folder.join(SETTINGS_FILE), &self.record)?;
        let metrics = self.folder.join(METRICS_FILE);
        self.metrics = Some(File::create_new(&metrics).map_err(Error::file(&metrics))?);
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<ControlFlow<()>, Error> {
        let failed = Error::file(self.folder.join(METRICS_FILE));
        let file = self.metrics.as_mut().ok_or(Error::Internal("a run that has begun"))?;
        let line = serde_json::to_string(step.metrics).map_err(std::io::Error::from).map(|line| line + "\n");
        line.and_then(|line| file.write_all(line.as_bytes())).map_err(failed)?;
        Ok(ControlFlow::Continue(()))
    }

    /// Writes the trained tensors; the run is whole then.
    fn trained(&mut self, trained: &Trained) -> Result<(), Error> {
        if let Some(metrics) = &self.metrics {
            metrics.sync_all().map_err(Error::file(self.folder.join(METRICS_FILE)))?;
        }
        if let TrainingMethod::Lora(lora) = &self.record.training.method {
            let adapters: Vec<&Adapter> = trained.model.scope().adapters().collect();
            let config = peft::config(&adapters, lora, &self.record.model_folder);
            write_json(&self.folder.join(ADAPTER_CONFIG_FILE), &config)?;
        }
        let path = self.folder.join(self.record.training.method.file());
        write_trained(&path, trained.model.parameters(), self.record.plan, trained.base_weights)
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
