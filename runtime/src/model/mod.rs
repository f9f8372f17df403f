//! A decoder, its parameters, and their gradients.

mod adapters;
mod coverage;
mod decoder;
mod gradients;
mod layer;
mod loss;
mod modules;
mod parameters;
mod scope;

use candle_core::Tensor;
use frostline_schemas::data::Example;
use frostline_schemas::model::{DecoderConfig, ModelFolder};

pub(crate) use self::adapters::peft;
pub use self::adapters::{Adapter, target_names};
pub use self::coverage::check_coverage;
use self::decoder::Decoder;
pub use self::decoder::GradientObserver;
pub(crate) use self::gradients::norm as gradient_norm;
pub use self::gradients::{Gradients, Squares};
pub use self::loss::{CrossEntropy, Loss, Objective};
pub use self::parameters::{ComputePrecision, Parameters};
pub use self::scope::Scope;
use crate::data::Batch;
use crate::error::Error;
use crate::system::{Device, open_device};

/// A decoder with its parameters, of which the scope's tensors are trained.
pub struct Model {
    decoder: Decoder,
    parameters: Parameters,
}

impl Model {
    /// Takes over a folder's weights. What is usual on the device is computed in where no precision is given.
    ///
    /// # Errors
    /// As for [`Parameters::new`] and [`open_device`].
    pub fn open(
        folder: ModelFolder,
        scope: Scope,
        device: Device,
        precision: Option<ComputePrecision>,
    ) -> Result<Model, Error> {
        let ModelFolder { config, weights, .. } = folder;
        let precision = precision.unwrap_or(ComputePrecision::of(device));
        let parameters = Parameters::new(&config, weights, &scope, open_device(device)?, precision)?;
        Ok(Model::new(config, scope, parameters))
    }

    /// A model of which nothing is trained, to be evaluated.
    ///
    /// # Errors
    /// As for [`open`](Model::open).
    pub fn frozen(folder: ModelFolder, device: Device, precision: Option<ComputePrecision>) -> Result<Model, Error> {
        Model::open(folder, Scope::nothing(), device, precision)
    }

    /// The model that `config` describes, with these parameters.
    pub fn new(config: DecoderConfig, scope: Scope, parameters: Parameters) -> Model {
        Model { decoder: Decoder::new(config, scope), parameters }
    }

    /// Keeps of each layer its input alone, and computes the rest again when its gradients are needed: less memory, a
    /// forward pass more.
    pub fn recomputing(self, recomputes: bool) -> Model {
        Model { decoder: self.decoder.recomputing(recomputes), ..self }
    }

    /// What the model is made of.
    pub fn config(&self) -> &DecoderConfig {
        self.decoder.config()
    }

    /// What is trained.
    pub fn scope(&self) -> &Scope {
        self.decoder.scope()
    }

    /// Layers whose output never changes, counted from the input.
    pub fn frost_line(&self) -> usize {
        self.decoder.frost_line()
    }

    /// The tensors.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The tensors, to be changed.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Gives adapters their first values, drawn from the seed.
    ///
    /// # Errors
    /// [`Error::Tensor`] where they cannot be put on the device.
    pub fn initialise_adapters(&mut self, seed: u64) -> Result<(), Error> {
        adapters::initialise(self.decoder.scope().adapters(), &mut self.parameters, seed)
    }

    /// Checks before anything is computed that every token is in the vocabulary and no row longer than the learned
    /// positions.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::TargetPositions`] and [`Error::TooLong`] with the row's line.
    pub fn check(&self, examples: &[Example]) -> Result<(), Error> {
        self.decoder.check(examples)
    }

    /// Positions that the model has learned; `None` where it knows positions by rotation.
    pub(crate) fn learned_positions(&self) -> Option<usize> {
        self.decoder.learned_positions()
    }

    /// The state at the frost line, [tokens, hidden]: it depends on nothing that is trained, unless an embedding is.
    ///
    /// In f32 on the CPU, what it is for one row does not depend, bit for bit, on the rows beside it.
    pub fn prefix(&self, batch: &Batch) -> Result<Tensor, Error> {
        self.decoder.prefix(&self.parameters, batch)
    }

    /// Loss of the batch's targets given the state at the frost line, and the gradients of all that is trained.
    ///
    /// Returns the sum of the targets' losses in nats; the gradients are those of the objective, `objective.scale` times
    /// that sum.
    pub fn loss_and_gradients(
        &mut self,
        batch: &Batch,
        state: Tensor,
        objective: Objective,
        gradients: &mut Gradients,
        observer: &mut dyn GradientObserver,
    ) -> Result<f64, Error> {
        self.decoder.loss_and_gradients(&mut self.parameters, batch, state, objective, gradients, observer)
    }

    /// ln p of each target of the batch, in nats, in the batch's order.
    pub fn log_probabilities(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        self.decoder.log_probabilities(&self.parameters, batch)
    }

    /// The same given the state at the frost line.
    pub fn log_probabilities_above(&self, batch: &Batch, state: Tensor) -> Result<Vec<f32>, Error> {
        self.decoder.log_probabilities_above(&self.parameters, batch, state)
    }

    /// Logits at every token, [tokens, vocabulary]: for comparison with other implementations.
    pub fn logits(&self, batch: &Batch) -> Result<Tensor, Error> {
        self.decoder.logits(&self.parameters, batch)
    }
}
