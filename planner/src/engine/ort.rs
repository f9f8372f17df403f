//! ONNX Runtime, loaded at run time, on the CPU or on CUDA.
//!
//! The edited graph is handed over as bytes; external data files are mapped by ONNX Runtime itself from the model's
//! folder. A provider that does not load is an error, never a silent fall to the CPU.

use std::path::{Path, PathBuf};

use frostline_schemas::device::Device;
use ort::ep;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::Tensor;
use prost::Message;

use super::inputs::{GraphInput, InputValues, inputs};
use super::ort_library::{self, Library};
use super::{BatchTraces, Engine, Sink};
use crate::batch::{BatchShape, PaddedBatch};
use crate::error::{Error, Result};
use crate::onnx::OnnxModel;
use crate::rewrite::trace_outputs::TRACES;

const NAME: &str = "ort";
/// Where ONNX Runtime looks for the data files of a model that it gets as bytes.
const DATA_FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// A session of ONNX Runtime.
pub(crate) struct Ort {
    session: Session,
    inputs: Vec<GraphInput>,
    version: String,
    device: Device,
    /// The export, for messages.
    path: PathBuf,
}

impl Ort {
    /// Takes an edited graph; `ids` is the input that holds token ids. `library`: where the library is, else it is looked
    /// for. It gets as many threads as the rayon pool has that it is called in.
    ///
    /// # Errors
    /// [`Error::NoOrt`] where no library is found, [`Error::Input`] for an input that nobody can feed, and what ONNX
    /// Runtime says where it takes neither the graph nor the device.
    pub(crate) fn new(model: &OnnxModel, ids: &str, library: Option<&Path>, device: Device) -> Result<Ort> {
        let inputs = inputs(model, ids)?;
        let library = ort_library::load(library)?;
        let folder = std::path::absolute(model.external().folder()).map_err(failed)?;
        let bytes = model.proto().encode_to_vec();
        let refused = |error: ort::Error| refused(model.path(), error);
        let session = builder(&library, device, &folder)?.commit_from_memory(&bytes).map_err(refused)?;
        Ok(Ort { session, inputs, version: library.version, device, path: model.path().into() })
    }
}

fn builder(library: &Library, device: Device, folder: &Path) -> Result<SessionBuilder> {
    let folder = folder.to_str().ok_or_else(|| failed(format!("{}: not a path in UTF-8", folder.display())))?;
    let provider = match device {
        Device::Cpu => ep::CPU::default().build(),
        Device::Cuda(number) => cuda(number)?,
    };
    let recoverable = |error: ort::Error<SessionBuilder>| failed(error);
    Session::builder(&library.environment)
        .map_err(failed)?
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(recoverable)?
        .with_intra_threads(rayon::current_num_threads())
        .map_err(recoverable)?
        .with_config_entry(DATA_FOLDER, folder)
        .map_err(recoverable)?
        .with_execution_providers([provider.error_on_failure()])
        .map_err(recoverable)
}

#[cfg(feature = "cuda")]
fn cuda(number: u16) -> Result<ep::ExecutionProviderDispatch> {
    use ort::ep::ExecutionProvider;
    if !ep::CUDA::is_available().map_err(failed)? {
        return Err(failed("this library has no CUDA provider; install the Python package `onnxruntime-gpu`"));
    }
    Ok(ep::CUDA::default().with_device_id(number.into()).build())
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: u16) -> Result<ep::ExecutionProviderDispatch> {
    Err(failed("built without CUDA; build Frostline with the feature `cuda`"))
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Engine { engine: NAME, reason: error.to_string() }
}

fn refused(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Graph { path: path.into(), engine: NAME, reason: error.to_string(), other: "tract" }
}

impl Engine for Ort {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn provider(&self) -> &'static str {
        match self.device {
            Device::Cpu => "cpu",
            Device::Cuda(_) => "cuda",
        }
    }

    fn run(&mut self, shape: BatchShape, batches: &[PaddedBatch], sink: &mut Sink) -> Result<()> {
        for (index, batch) in batches.iter().enumerate() {
            let mut fed: Vec<(&str, SessionInputValue)> = Vec::new();
            for input in &self.inputs {
                fed.push((&input.name, value(input, shape, batch).map_err(failed)?));
            }
            let outputs = self.session.run(fed).map_err(|error| refused(&self.path, error))?;
            let output = outputs.get(TRACES).ok_or_else(|| failed(format!("no output `{TRACES}`")))?;
            let (dims, values) = output.try_extract_tensor::<f32>().map_err(failed)?;
            let dims: Vec<usize> = dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect();
            sink(index, BatchTraces::new(NAME, shape, &dims, values.to_vec())?)?;
        }
        Ok(())
    }
}

fn value(input: &GraphInput, shape: BatchShape, batch: &PaddedBatch) -> ort::Result<SessionInputValue<'static>> {
    let (dims, values) = input.values(shape, batch);
    Ok(match values {
        InputValues::Int64(values) => Tensor::from_array((dims, values))?.into(),
        InputValues::Int32(values) => Tensor::from_array((dims, values))?.into(),
        InputValues::Float(values) => Tensor::from_array((dims, values))?.into(),
        InputValues::Bool(values) => Tensor::from_array((dims, values))?.into(),
    })
}
