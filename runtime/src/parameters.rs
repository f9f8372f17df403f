//! The model's tensors: frozen ones as the files hold them, trained ones as training has left them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use candle_core::{Device, Tensor};
use frostline_schemas::decoder::{DecoderConfig, TensorSpec};
use frostline_schemas::weights::Weights;

use crate::error::Error;
use crate::ops::cpu;
use crate::scope::Scope;

/// Every tensor of a model, in f32 on one device.
///
/// A frozen tensor is read from the memory map when it is first asked for, so that what is never used (the prefix,
/// where its output is known) costs nothing. Of a frozen embedding only the rows in use are read, unless it is tied: the head needs it whole.
pub struct Parameters {
    weights: Weights,
    device: Device,
    slots: BTreeMap<String, Slot>,
}

struct Slot {
    spec: TensorSpec,
    trained: bool,
    value: OnceLock<Tensor>,
}

impl Parameters {
    /// Takes over checked weights.
    ///
    /// # Errors
    /// [`Error::Weights`] where a tensor of the config is missing, has another shape or is no float.
    pub fn new(config: &DecoderConfig, weights: Weights, scope: &Scope, device: Device) -> Result<Parameters, Error> {
        weights.check(config)?;
        let slot = |spec: &TensorSpec| {
            (spec.name.clone(), Slot { spec: spec.clone(), trained: scope.holds(spec), value: OnceLock::new() })
        };
        let slots = config.tensors().into_iter().map(slot).collect();
        Ok(Parameters { weights, device, slots })
    }

    /// The device on which all tensors lie.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A tensor in its config's shape.
    pub fn get(&self, spec: &TensorSpec) -> Result<&Tensor, Error> {
        let slot = self.slot(&spec.name)?;
        if let Some(value) = slot.value.get() {
            return Ok(value);
        }
        let loaded = self.load(&slot.spec)?;
        Ok(slot.value.get_or_init(|| loaded))
    }

    /// Rows of a table [rows, width] by index → [indices, width]. Of a frozen table only these rows are read.
    pub fn rows(&self, spec: &TensorSpec, indices: &[u32]) -> Result<Tensor, Error> {
        if self.slot(&spec.name)?.trained {
            let indices = Tensor::from_slice(indices, indices.len(), &self.device)?;
            return Ok(self.get(spec)?.index_select(&indices, 0)?);
        }
        let view = self.weights.require(&spec.name)?;
        let width: usize = spec.shape[1..].iter().product();
        let mut values = vec![0.0; indices.len() * width];
        for (&index, row) in indices.iter().zip(values.chunks_exact_mut(width.max(1))) {
            if !view.read_f32(index as usize * width, row) {
                return Err(Error::Index { table: spec.name.clone(), index, rows: spec.shape[0] });
            }
        }
        Ok(Tensor::from_vec(values, (indices.len(), width), &self.device)?)
    }

    /// The trained tensors by name, sorted.
    pub fn trained(&self) -> impl Iterator<Item = (&str, Result<&Tensor, Error>)> {
        let trained = self.slots.iter().filter(|(_, slot)| slot.trained);
        trained.map(|(name, slot)| (name.as_str(), self.get(&slot.spec)))
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
            true => self.get(&slot.spec),
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
        slot.value = OnceLock::from(value);
        Ok(())
    }

    fn slot(&self, name: &str) -> Result<&Slot, Error> {
        self.slots.get(name).ok_or_else(|| Error::UnknownTensors { names: vec![name.to_owned()] })
    }

    fn load(&self, spec: &TensorSpec) -> Result<Tensor, Error> {
        let view = self.weights.require(&spec.name)?;
        let values = view.to_f32().ok_or_else(|| Error::NotFloat { name: spec.name.clone(), dtype: view.dtype })?;
        Ok(Tensor::from_vec(values, spec.shape.as_slice(), &self.device)?)
    }
}

fn is_finite(tensor: &Tensor) -> Result<bool, Error> {
    if tensor.device().is_cpu() {
        return Ok(cpu::is_finite(tensor)?);
    }
    // 0 · x is 0 for every number and NaN for all else.
    Ok(tensor.affine(0.0, 0.0)?.sum_all()?.to_scalar::<f32>()?.is_finite())
}
