//! The decoder: embed → prefix → suffix → final norm and head at the targets → loss, and back to the frost line.

use candle_core::Tensor;
use frostline_schemas::decoder::DecoderConfig;
use frostline_schemas::examples::Example;
use frostline_schemas::folder::ModelFolder;

use crate::batches::Batch;
use crate::device::{self, Device};
use crate::error::Error;
use crate::gradients::Gradients;
use crate::layer::{self, Context, Layer};
use crate::modules::Norm;
use crate::ops::{embedding, loss};
use crate::parameters::Parameters;
use crate::scope::Scope;

/// A decoder of which the scope's tensors are trained.
#[derive(Clone, Debug)]
pub struct Decoder {
    config: DecoderConfig,
    scope: Scope,
    layers: Vec<Layer>,
    final_norm: Norm,
    frost_line: usize,
}

impl Decoder {
    /// The decoder that `config` describes.
    pub fn new(config: DecoderConfig, scope: Scope) -> Decoder {
        Decoder {
            layers: config.layers.iter().map(|spec| Layer::new(spec, &scope)).collect(),
            final_norm: Norm::new(&config.final_norm, &scope),
            frost_line: scope.frost_line(&config),
            config,
            scope,
        }
    }

    /// A model of which nothing is trained, and its parameters, to be evaluated.
    ///
    /// # Errors
    /// As for [`Parameters::new`] and [`device::open`].
    pub fn frozen(model: ModelFolder, device: Device) -> Result<(Decoder, Parameters), Error> {
        let ModelFolder { config, weights, .. } = model;
        let scope = Scope::nothing();
        let parameters = Parameters::new(&config, weights, &scope, device::open(device)?)?;
        Ok((Decoder::new(config, scope), parameters))
    }

    /// What is trained.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Layers whose output never changes, counted from the input.
    pub fn frost_line(&self) -> usize {
        self.frost_line
    }

    /// Checks before anything is computed that every token is in the vocabulary and no row longer than the learned
    /// positions.
    ///
    /// # Errors
    /// [`Error::Token`] and [`Error::TooLong`] with the row's line.
    pub fn check(&self, examples: &[Example]) -> Result<(), Error> {
        let vocabulary = self.config.embedding.shape[0].min(self.config.head.shape[0]);
        for Example { line, tokens, targets, .. } in examples {
            let mut all = tokens.iter().chain(targets.iter().map(|target| &target.token));
            if let Some(&token) = all.find(|&&token| token as usize >= vocabulary) {
                return Err(Error::Token { line: *line, token, vocabulary });
            }
            self.check_length(*line, tokens.len())?;
        }
        Ok(())
    }

    /// Places that the model has learned; `None` where it knows places by rotation.
    pub(crate) fn positions(&self) -> Option<usize> {
        self.config.position_embedding.as_ref().map(|spec| spec.shape[0])
    }

    fn check_length(&self, line: u64, tokens: usize) -> Result<(), Error> {
        match self.positions() {
            Some(positions) if tokens > positions => Err(Error::TooLong { line, tokens, positions }),
            _ => Ok(()),
        }
    }

    /// The state at the frost line, [rows, sequence, hidden]: it depends on nothing that is trained, unless an
    /// embedding is.
    pub fn prefix(&self, parameters: &Parameters, batch: &Batch) -> Result<Tensor, Error> {
        self.run(parameters, batch, self.embed(parameters, batch)?, 0..self.frost_line)
    }

    /// Loss of the batch's targets given the state at the frost line, and the gradients of all that is trained.
    ///
    /// Returns Σ −ln p(target) in nats; the gradients are those of `scale` times it.
    pub fn loss_and_gradients(
        &self,
        parameters: &Parameters,
        batch: &Batch,
        boundary: Tensor,
        scale: f64,
        gradients: &mut Gradients,
    ) -> Result<f64, Error> {
        let context = Context::new(&self.config, batch.sequence, parameters.device())?;
        let (hidden, saved) = self.suffix(parameters, &context, boundary)?;
        let shape = hidden.dims().to_vec();
        let (loss, at_targets) = self.loss_at_targets(parameters, batch, hidden, scale, gradients)?;
        let Some(at_targets) = at_targets else { return Ok(loss) };
        let dy = embedding::backward(&at_targets, &self.places(parameters, batch)?, shape[0] * shape[1])?;
        self.suffix_backward(parameters, &context, batch, saved, dy.reshape(shape)?, gradients)?;
        Ok(loss)
    }

    /// ln p of each target of the batch, in nats, in the batch's order.
    pub fn log_probabilities(&self, parameters: &Parameters, batch: &Batch) -> Result<Vec<f32>, Error> {
        let hidden = self.hidden(parameters, batch)?;
        let normed = self.final_norm.forward(parameters, &self.at_targets(parameters, batch, &hidden)?)?;
        Ok(loss::log_probabilities(&normed, parameters.get(&self.config.head)?, &batch.targets)?)
    }

    /// Logits at every place, [rows, sequence, vocabulary]: for comparison with other implementations.
    pub fn logits(&self, parameters: &Parameters, batch: &Batch) -> Result<Tensor, Error> {
        let normed = self.final_norm.forward(parameters, &self.hidden(parameters, batch)?)?;
        Ok(normed.broadcast_matmul(&parameters.get(&self.config.head)?.t()?)?)
    }

    /// The last latent space, before the final norm, [rows, sequence, hidden].
    fn hidden(&self, parameters: &Parameters, batch: &Batch) -> Result<Tensor, Error> {
        self.run(parameters, batch, self.embed(parameters, batch)?, 0..self.layers.len())
    }

    /// Layers forward only.
    fn run(
        &self,
        parameters: &Parameters,
        batch: &Batch,
        mut hidden: Tensor,
        layers: std::ops::Range<usize>,
    ) -> Result<Tensor, Error> {
        let context = Context::new(&self.config, batch.sequence, parameters.device())?;
        for layer in &self.layers[layers] {
            hidden = layer.forward(parameters, &context, &hidden)?;
        }
        Ok(hidden)
    }

    /// Latent space 0, [rows, sequence, hidden].
    fn embed(&self, parameters: &Parameters, batch: &Batch) -> Result<Tensor, Error> {
        self.check_length(batch.longest, batch.sequence)?;
        let shape = (batch.rows, batch.sequence, self.config.hidden);
        let mut hidden = parameters.rows(&self.config.embedding, &batch.tokens)?.reshape(shape)?;
        if let Some(scale) = self.config.embedding_scale {
            hidden = (hidden * scale)?;
        }
        if let Some(spec) = &self.config.position_embedding {
            let places: Vec<u32> = (0..batch.sequence as u32).collect();
            hidden = hidden.broadcast_add(&parameters.rows(spec, &places)?)?;
        }
        Ok(hidden)
    }

    /// Gradients of the embeddings from that of latent space 0.
    fn embed_backward(
        &self,
        parameters: &Parameters,
        batch: &Batch,
        dy: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<(), Error> {
        let table = &self.config.embedding;
        if self.scope.holds(table) {
            let tokens = Tensor::from_slice(&batch.tokens, batch.tokens.len(), parameters.device())?;
            let dy = match self.config.embedding_scale {
                Some(scale) => (dy * scale)?,
                None => dy.clone(),
            };
            gradients.add(&table.name, embedding::backward(&dy, &tokens, table.shape[0])?)?;
        }
        if let Some(spec) = self.config.position_embedding.as_ref().filter(|spec| self.scope.holds(spec)) {
            let unread = spec.shape[0] - batch.sequence;
            gradients.add(&spec.name, dy.sum(0)?.pad_with_zeros(0, 0, unread)?)?;
        }
        Ok(())
    }

    /// The layers above the frost line, with what each keeps.
    fn suffix(
        &self,
        parameters: &Parameters,
        context: &Context,
        mut hidden: Tensor,
    ) -> Result<(Tensor, Vec<layer::Saved>), Error> {
        let mut all = Vec::new();
        for layer in &self.layers[self.frost_line..] {
            let (y, saved) = layer.forward_saved(parameters, context, &hidden)?;
            hidden = y;
            all.push(saved);
        }
        Ok((hidden, all))
    }

    /// Final norm, head and loss; returns the gradient of the hidden states at targets, [targets, hidden], where
    /// anything below is trained.
    fn loss_at_targets(
        &self,
        parameters: &Parameters,
        batch: &Batch,
        hidden: Tensor,
        scale: f64,
        gradients: &mut Gradients,
    ) -> Result<(f64, Option<Tensor>), Error> {
        let states = self.at_targets(parameters, batch, &hidden)?;
        let (normed, saved) = self.final_norm.forward_saved(parameters, &states)?;
        let spec = &self.config.head;
        let head = parameters.get(spec)?;
        let outcome = loss::cross_entropy(&normed, head, &batch.targets, scale, self.scope.holds(spec))?;
        if let Some(gradient) = outcome.head {
            gradients.add(&spec.name, gradient)?;
        }
        let wants_input = self.frost_line < self.layers.len();
        let dy = self.final_norm.backward(parameters, &saved, &outcome.hidden, wants_input, gradients)?;
        Ok((outcome.loss, dy))
    }

    /// Back through the layers above the frost line, each layer's saved tensors freed as it is done.
    fn suffix_backward(
        &self,
        parameters: &Parameters,
        context: &Context,
        batch: &Batch,
        mut saved: Vec<layer::Saved>,
        mut dy: Tensor,
        gradients: &mut Gradients,
    ) -> Result<(), Error> {
        let wants_embedding =
            self.scope.holds(&self.config.embedding) || self.scope.holds_any(&self.config.position_embedding);
        for (k, layer) in self.layers[self.frost_line..].iter().enumerate().rev() {
            let saved = saved.pop().ok_or(Error::Internal("a layer's saved tensors"))?;
            match layer.backward(parameters, context, saved, dy, k > 0 || wants_embedding, gradients)? {
                Some(dx) => dy = dx,
                None => return Ok(()),
            }
        }
        self.embed_backward(parameters, batch, &dy, gradients)
    }

    /// Rows of [rows, sequence, hidden] where targets are predicted, [targets, hidden].
    fn at_targets(&self, parameters: &Parameters, batch: &Batch, hidden: &Tensor) -> Result<Tensor, Error> {
        Ok(hidden.flatten_to(1)?.index_select(&self.places(parameters, batch)?, 0)?)
    }

    fn places(&self, parameters: &Parameters, batch: &Batch) -> Result<Tensor, Error> {
        Ok(Tensor::from_slice(&batch.places, batch.places.len(), parameters.device())?)
    }
}
