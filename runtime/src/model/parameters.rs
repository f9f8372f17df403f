//! The model's tensors: frozen ones as the files hold them, trained ones as training has left them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use frostline_schemas::model::Weights;
use frostline_schemas::model::{DecoderConfig, TensorSpec};

use crate::error::Error;
use crate::model::adapters::Adapter;
use crate::model::scope::Scope;
use crate::ops::cpu;
use crate::ops::matrix::Matrix;

/// In which precision to compute. Trained tensors, their gradients and the optimiser's moments, losses and norms are in
/// f32 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComputePrecision {
    /// Everything in f32.
    F32,
    /// Products and what lies between them in bf16.
    Bf16,
}

impl ComputePrecision {
    /// What is usual on a device: f32 on the CPU, bf16 on a GPU.
    pub fn of(device: crate::system::Device) -> ComputePrecision {
        match device {
            crate::system::Device::Cpu => ComputePrecision::F32,
            crate::system::Device::Cuda(_) => ComputePrecision::Bf16,
        }
    }

    fn dtype(self) -> DType {
        match self {
            ComputePrecision::F32 => DType::F32,
            ComputePrecision::Bf16 => DType::BF16,
        }
    }
}

/// Every tensor of a model and of its adapters, on one device.
///
/// A frozen tensor is read when it is first asked for, so that what is never used (the prefix, where its output is known)
/// costs nothing. On the CPU in f32 a frozen matrix is not even copied: products read it from the memory map. Of a
/// frozen embedding only the rows in use are read.
pub struct Parameters {
    weights: Weights,
    device: Device,
    precision: ComputePrecision,
    slots: BTreeMap<String, Slot>,
}

struct Slot {
    spec: TensorSpec,
    trained: bool,
    /// In f32 where it is trained or a vector, else in the precision of products.
    value: OnceLock<Tensor>,
    /// A trained matrix in the precision of products, where that is another.
    rounded: OnceLock<Tensor>,
}

impl Parameters {
    /// Takes over checked weights. Adapters are zero.
    ///
    /// # Errors
    /// [`Error::Weights`] where a tensor of the config is missing, has another shape or is no float.
    pub fn new(
        config: &DecoderConfig,
        weights: Weights,
        scope: &Scope,
        device: Device,
        precision: ComputePrecision,
    ) -> Result<Parameters, Error> {
        weights.check(config)?;
        let slot = |spec: &TensorSpec| {
            let (value, rounded) = (OnceLock::new(), OnceLock::new());
            (spec.name.clone(), Slot { spec: spec.clone(), trained: scope.holds(spec), value, rounded })
        };
        let mut slots: BTreeMap<String, Slot> = config.tensors().into_iter().map(slot).collect();
        for (name, slot) in scope.adapters().flat_map(Adapter::tensors).map(slot) {
            let zeros = Tensor::zeros(slot.spec.shape.as_slice(), DType::F32, &device)?;
            slots.insert(name, Slot { value: OnceLock::from(zeros), ..slot });
        }
        Ok(Parameters { weights, device, precision, slots })
    }

    /// The device on which all tensors lie.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type of hidden states.
    pub fn dtype(&self) -> DType {
        self.precision.dtype()
    }

    /// A norm's weight or a bias, in f32.
    pub fn vector(&self, spec: &TensorSpec) -> Result<&Tensor, Error> {
        self.value(self.slot(&spec.name)?)
    }

    /// A weight in its config's shape, in the precision of products.
    pub fn matrix(&self, spec: &TensorSpec) -> Result<Matrix<'_>, Error> {
        let slot = self.slot(&spec.name)?;
        if !slot.trained && self.device.is_cpu() && self.precision == ComputePrecision::F32 {
            return Ok(Matrix::Mapped(self.weights.require(&spec.name)?));
        }
        let value = self.value(slot)?;
        if value.dtype() == self.dtype() {
            return Ok(Matrix::Tensor(value));
        }
        if let Some(rounded) = slot.rounded.get() {
            return Ok(Matrix::Tensor(rounded));
        }
        let rounded = value.to_dtype(self.dtype())?;
        Ok(Matrix::Tensor(slot.rounded.get_or_init(|| rounded)))
    }

    fn value<'a>(&self, slot: &'a Slot) -> Result<&'a Tensor, Error> {
        if let Some(value) = slot.value.get() {
            return Ok(value);
        }
        let mut loaded = self.load(&slot.spec)?;
        if !slot.trained && slot.spec.shape.len() > 1 {
            loaded = loaded.to_dtype(self.dtype())?;
        }
        Ok(slot.value.get_or_init(|| loaded))
    }

    /// Rows of a table [rows, width] by index → [indices, width], in the precision of products. Of a frozen table only these rows are read.
    pub fn rows(&self, spec: &TensorSpec, indices: &[u32]) -> Result<Tensor, Error> {
        if self.slot(&spec.name)?.trained {
            let indices = Tensor::from_slice(indices, indices.len(), &self.device)?;
            return Ok(self.value(self.slot(&spec.name)?)?.index_select(&indices, 0)?.to_dtype(self.dtype())?);
        }
        let view = self.weights.require(&spec.name)?;
        let width: usize = spec.shape[1..].iter().product();
        let mut values = vec![0.0; indices.len() * width];
        for (&index, row) in indices.iter().zip(values.chunks_exact_mut(width.max(1))) {
            if !view.read_f32(index as usize * width, row) {
                return Err(Error::Index { table: spec.name.clone(), index, rows: spec.shape[0] });
            }
        }
        Ok(Tensor::from_vec(values, (indices.len(), width), &self.device)?.to_dtype(self.dtype())?)
    }

    /// The trained tensors by name, sorted.
    pub fn trained(&self) -> impl Iterator<Item = (&str, Result<&Tensor, Error>)> {
        let trained = self.slots.iter().filter(|(_, slot)| slot.trained);
        trained.map(|(name, slot)| (name.as_str(), self.value(slot)))
    }

    /// Checks that every trained tensor is finite.
    ///
    /// # Errors
    /// [`Error::Diverged`] with the names of those that are not.
    pub fn check_finite(&self) -> Result<(), Error> {
        let mut names = Vec::new();
        for (name, tensor) in self.trained() {
            if !is_finite(tensor?)? {
                names.push(name.to_owned());
            }
        }
        if names.is_empty() { Ok(()) } else { Err(Error::Diverged { names }) }
    }

    /// A trained tensor.
    ///
    /// # Errors
    /// [`Error::UnknownTensors`] where the model has none of this name or it is frozen.
    pub fn trained_tensor(&self, name: &str) -> Result<&Tensor, Error> {
        let slot = self.slot(name)?;
        match slot.trained {
            true => self.value(slot),
            false => Err(Error::UnknownTensors { names: vec![name.to_owned()] }),
        }
    }

    /// Puts another value in a tensor's place, as when a run is evaluated; the tensor counts as trained from then on.
    ///
    /// # Errors
    /// [`Error::UnknownTensors`] for a tensor that the model does not have, [`Error::TensorShape`] for another shape.
    pub fn replace(&mut self, name: &str, value: Tensor) -> Result<(), Error> {
        let value = value.to_device(&self.device)?;
        let unknown = || Error::UnknownTensors { names: vec![name.to_owned()] };
        let slot = self.slots.get_mut(name).ok_or_else(unknown)?;
        if value.dims() != slot.spec.shape {
            return Err(Error::TensorShape {
                name: name.to_owned(),
                found: value.dims().to_vec(),
                expected: slot.spec.shape.clone(),
            });
        }
        slot.trained = true;
        (slot.value, slot.rounded) = (OnceLock::from(value), OnceLock::new());
        Ok(())
    }

    /// To be called when a trained tensor was changed in place.
    pub fn changed(&mut self, name: &str) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.rounded = OnceLock::new();
        }
    }

    fn slot(&self, name: &str) -> Result<&Slot, Error> {
        self.slots.get(name).ok_or_else(|| Error::UnknownTensors { names: vec![name.to_owned()] })
    }

    fn load(&self, spec: &TensorSpec) -> Result<Tensor, Error> {
        let values = self.weights.load_f32(&spec.name)?;
        Ok(Tensor::from_vec(values, spec.shape.as_slice(), &self.device)?)
    }
}

fn is_finite(tensor: &Tensor) -> Result<bool, Error> {
    if cpu::has_kernels_for(tensor) {
        return Ok(cpu::is_finite(tensor)?);
    }
    // 0 · x is 0 for every number and NaN for all else.
    Ok(tensor.affine(0.0, 0.0)?.sum_all()?.to_scalar::<f32>()?.is_finite())
}
