//! The decoder: embed → prefix → suffix → final norm and head at the targets → loss, and back to the frost line.

use candle_core::Tensor;
use frostline_schemas::data::Example;
use frostline_schemas::model::{DecoderConfig, LinearLayout};

use crate::data::Batch;
use crate::error::Error;
use crate::model::gradients::Gradients;
use crate::model::layer::{Context, Layer, LayerSaved, Tokens};
use crate::model::loss::{HeadInput, Objective, Targets};
use crate::model::modules::Norm;
use crate::model::parameters::Parameters;
use crate::model::scope::Scope;
use crate::ops::matrix::Matrix;
use crate::ops::{cpu, embedding, linear, loss, residual};

/// A decoder of which the scope's tensors are trained.
#[derive(Clone, Debug)]
pub(super) struct Decoder {
    config: DecoderConfig,
    scope: Scope,
    layers: Vec<Layer>,
    final_norm: Norm,
    frost_line: usize,
    recomputes: bool,
}

/// Sees a step's loss and gradients as they come. An error stops the step.
pub trait GradientObserver {
    /// The loss is known, summed over targets in nats, and no gradient of a layer computed yet.
    fn loss(&mut self, _loss: f64) -> Result<(), Error> {
        Ok(())
    }

    /// A layer's gradients are there, and its tensors are not read any more in this pass.
    fn layer_done(&mut self, _parameters: &mut Parameters, _gradients: &mut Gradients) -> Result<(), Error> {
        Ok(())
    }
}

/// Looks at nothing.
impl GradientObserver for () {}

impl Decoder {
    /// The decoder that `config` describes.
    pub(super) fn new(config: DecoderConfig, scope: Scope) -> Decoder {
        Decoder {
            layers: config.layers.iter().map(|spec| Layer::new(spec, &scope)).collect(),
            final_norm: Norm::new(&config.final_norm, &scope),
            frost_line: scope.frost_line(&config),
            recomputes: false,
            config,
            scope,
        }
    }

    /// Keeps of each layer its input alone, and computes the rest again when its gradients are wanted: less memory, a
    /// forward pass more.
    pub(super) fn recomputing(self, recomputes: bool) -> Decoder {
        Decoder { recomputes, ..self }
    }

    /// What the model is made of.
    pub(super) fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// What is trained.
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Layers whose output never changes, counted from the input.
    pub(super) fn frost_line(&self) -> usize {
        self.frost_line
    }

    /// Checks before anything is computed that every token is in the vocabulary and no row longer than the learned
    /// positions.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::TargetPositions`] and [`Error::TooLong`] with the row's line.
    pub(super) fn check(&self, examples: &[Example]) -> Result<(), Error> {
        let vocabulary = self.config.embedding.shape[0].min(self.config.head.shape[0]);
        for Example { line, tokens, targets, .. } in examples {
            let mut all = tokens.iter().chain(targets.iter().map(|target| &target.token));
            if let Some(&token) = all.find(|&&token| token as usize >= vocabulary) {
                return Err(Error::Token { line: *line, token, vocabulary });
            }
            let positions = || targets.iter().map(|target| target.position as usize);
            if positions().any(|position| position >= tokens.len()) || !positions().is_sorted_by(|a, b| a < b) {
                return Err(Error::TargetPositions { line: *line });
            }
            self.check_length(*line, tokens.len())?;
        }
        Ok(())
    }

    /// Positions that the model has learned; `None` where it knows positions by rotation.
    pub(super) fn learned_positions(&self) -> Option<usize> {
        self.config.position_embedding.as_ref().map(|spec| spec.shape[0])
    }

    fn check_length(&self, line: u64, tokens: usize) -> Result<(), Error> {
        match self.learned_positions() {
            Some(positions) if tokens > positions => Err(Error::TooLong { line, tokens, positions }),
            _ => Ok(()),
        }
    }

    /// The state at the frost line, [tokens, hidden]: it depends on nothing that is trained, unless an embedding is.
    ///
    /// In f32 on the CPU, what it is for one row does not depend, bit for bit, on the rows beside it.
    pub(super) fn prefix(&self, parameters: &Parameters, batch: &Batch) -> Result<Tensor, Error> {
        self.latent_space(self.frost_line, parameters, batch, Tokens::All)
    }

    /// Loss of the batch's targets given the state at the frost line, and the gradients of all that is trained.
    ///
    /// Returns the sum of the targets' losses in nats; the gradients are those of the objective.
    pub(super) fn loss_and_gradients(
        &self,
        parameters: &mut Parameters,
        batch: &Batch,
        state: Tensor,
        objective: Objective,
        gradients: &mut Gradients,
        observer: &mut dyn GradientObserver,
    ) -> Result<f64, Error> {
        let context = self.context(parameters, batch)?;
        let frost_line = self.frost_line.max(batch.frost_line);
        let (states, saved) = self.suffix(parameters, &context, state, frost_line)?;
        let (loss, dnormed) = self.head_loss(parameters, batch, &states, objective, gradients)?;
        observer.loss(loss)?;
        let needs_states = frost_line < self.layers.len();
        let dstates = self.final_norm.backward(parameters, &states, &dnormed, needs_states, gradients)?;
        drop(states);
        if let Some(dy) = dstates {
            self.suffix_backward(parameters, &context, batch, saved, dy, (gradients, observer))?;
        }
        Ok(loss)
    }

    /// ln p of each target of the batch, in nats, in the batch's order.
    pub(super) fn log_probabilities(&self, parameters: &Parameters, batch: &Batch) -> Result<Vec<f32>, Error> {
        self.log_probabilities_at(parameters, batch, &self.states(parameters, batch, Tokens::Targets)?)
    }

    /// The same given the last latent space at targets.
    fn log_probabilities_at(&self, parameters: &Parameters, batch: &Batch, states: &Tensor) -> Result<Vec<f32>, Error> {
        let normed = self.head_input(parameters, states)?;
        let head = parameters.matrix(&self.config.head)?;
        let input = HeadInput { hidden: &normed, head: &head, softcap: self.softcap() };
        Ok(loss::log_probabilities(input, &batch.targets)?)
    }

    /// The same given the state at the frost line.
    pub(super) fn log_probabilities_above(
        &self,
        parameters: &Parameters,
        batch: &Batch,
        state: Tensor,
    ) -> Result<Vec<f32>, Error> {
        let context = self.context(parameters, batch)?;
        let (states, _) = self.suffix(parameters, &context, state, self.layers.len())?;
        self.log_probabilities_at(parameters, batch, &states)
    }

    /// Logits at every token, [tokens, vocabulary]: for comparison with other implementations.
    pub(super) fn logits(&self, parameters: &Parameters, batch: &Batch) -> Result<Tensor, Error> {
        let normed = self.head_input(parameters, &self.states(parameters, batch, Tokens::All)?)?;
        let logits =
            linear::forward(&normed, &parameters.matrix(&self.config.head)?, None, LinearLayout::OutputsFirst)?;
        Ok(loss::capped(&logits, self.softcap())?)
    }

    fn softcap(&self) -> Option<f32> {
        self.config.logit_softcap.map(|cap| cap as f32)
    }

    /// What the head is multiplied with: states after the final norm, times the logits' scale, [states, hidden].
    fn head_input(&self, parameters: &Parameters, states: &Tensor) -> Result<Tensor, Error> {
        scaled(self.final_norm.forward(parameters, states)?, self.config.logit_scale)
    }

    /// The last latent space, before the final norm, at the tokens wanted, [tokens, hidden].
    fn states(&self, parameters: &Parameters, batch: &Batch, at: Tokens) -> Result<Tensor, Error> {
        self.latent_space(self.layers.len(), parameters, batch, at)
    }

    /// The latent space above the first `count` layers; `last` are the tokens at which the last of all layers is wanted.
    fn latent_space(
        &self,
        count: usize,
        parameters: &Parameters,
        batch: &Batch,
        last: Tokens,
    ) -> Result<Tensor, Error> {
        let context = self.context(parameters, batch)?;
        let mut hidden = self.embed(parameters, batch)?;
        for (layer, at) in self.layers.iter().zip(self.wanted_at(last)).take(count) {
            hidden = layer.forward(parameters, &context, &hidden, at)?;
        }
        Ok(hidden)
    }

    /// The tokens at which each layer's output is wanted, given those of the last.
    fn wanted_at(&self, last: Tokens) -> impl DoubleEndedIterator<Item = Tokens> + ExactSizeIterator {
        let count = self.layers.len();
        (0..count).map(move |layer| if layer + 1 == count { last } else { Tokens::All })
    }

    fn context(&self, parameters: &Parameters, batch: &Batch) -> Result<Context, Error> {
        self.check_length(batch.longest, batch.sequences.longest())?;
        Context::new(&self.config, batch, parameters.device())
    }

    /// Latent space 0, [tokens, hidden].
    fn embed(&self, parameters: &Parameters, batch: &Batch) -> Result<Tensor, Error> {
        let mut hidden = scaled(parameters.rows(&self.config.embedding, &batch.tokens)?, self.config.embedding_scale)?;
        if let Some(spec) = &self.config.position_embedding {
            hidden = residual::add(hidden, &parameters.rows(spec, batch.sequences.positions())?)?;
        }
        Ok(hidden)
    }

    fn trains_embeddings(&self) -> bool {
        self.scope.holds(&self.config.embedding) || self.scope.holds_any(&self.config.position_embedding)
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
            let dy = scaled(dy.clone(), self.config.embedding_scale)?;
            gradients.add(&table.name, embedding::backward(&dy, &tokens, table.shape[0])?)?;
        }
        if let Some(spec) = self.config.position_embedding.as_ref().filter(|spec| self.scope.holds(spec)) {
            let positions = batch.sequences.positions();
            let positions = Tensor::from_slice(positions, positions.len(), parameters.device())?;
            gradients.add(&spec.name, embedding::backward(dy, &positions, spec.shape[0])?)?;
        }
        Ok(())
    }

    /// The layers above the decoder's own frost line; what each above the batch's keeps, and the last latent space at
    /// targets, [targets, hidden].
    fn suffix(
        &self,
        parameters: &Parameters,
        context: &Context,
        mut hidden: Tensor,
        frost_line: usize,
    ) -> Result<(Tensor, Vec<LayerSaved>), Error> {
        if self.frost_line == self.layers.len() {
            return Ok((context.select(&hidden, Tokens::Targets)?, Vec::new()));
        }
        let mut all = Vec::new();
        let layers = self.layers.iter().zip(self.wanted_at(Tokens::Targets)).enumerate();
        for (number, (layer, at)) in layers.skip(self.frost_line) {
            if number < frost_line {
                hidden = layer.forward(parameters, context, &hidden, at)?;
            } else if self.recomputes {
                all.push(LayerSaved::Input(hidden.clone()));
                hidden = layer.forward(parameters, context, &hidden, at)?;
            } else {
                let (y, saved) = layer.forward_saved(parameters, context, &hidden, at)?;
                hidden = y;
                all.push(saved);
            }
        }
        Ok((hidden, all))
    }

    /// Head and loss; the gradient of the states after the final norm, [targets, hidden].
    fn head_loss(
        &self,
        parameters: &Parameters,
        batch: &Batch,
        states: &Tensor,
        objective: Objective,
        gradients: &mut Gradients,
    ) -> Result<(f64, Tensor), Error> {
        let normed = self.head_input(parameters, states)?;
        let tokens = batch.one_target_each().ok_or(Error::Internal("one target at each token"))?;
        let spec = &self.config.head;
        let head = parameters.matrix(spec)?;
        let input = HeadInput { hidden: &normed, head: &head, softcap: self.softcap() };
        let targets = Targets { tokens: &tokens, weights: None };
        let Objective { loss, scale } = objective;
        let outcome = match &head {
            _ if !self.scope.holds(spec) => loss.at_targets(input, targets, scale, None)?,
            Matrix::Tensor(_) if !cpu::has_kernels_for(&normed) => {
                gradients.add(&spec.name, loss.reference_head_gradient(input, targets, scale)?)?;
                loss.at_targets(input, targets, scale, None)?
            }
            _ => gradients.in_place(&spec.name, &spec.shape, |gradient, mode| {
                loss.at_targets(input, targets, scale, Some((gradient, mode)))
            })?,
        };
        Ok((outcome.loss, scaled(outcome.hidden, self.config.logit_scale)?))
    }

    /// Back through the layers above the frost line, each layer's saved tensors freed as it is done.
    fn suffix_backward(
        &self,
        parameters: &mut Parameters,
        context: &Context,
        batch: &Batch,
        mut saved: Vec<LayerSaved>,
        mut dy: Tensor,
        (gradients, observer): (&mut Gradients, &mut dyn GradientObserver),
    ) -> Result<(), Error> {
        let frost_line = self.layers.len() - saved.len();
        let needs_embedding = frost_line == 0 && self.trains_embeddings();
        let layers = self.layers.iter().zip(self.wanted_at(Tokens::Targets)).skip(frost_line);
        for (k, (layer, at)) in layers.enumerate().rev() {
            let saved = saved.pop().ok_or(Error::Internal("a layer's saved tensors"))?;
            let wants = (at, k > 0 || needs_embedding);
            let dx = layer.backward(parameters, context, saved, dy, wants, gradients)?;
            observer.layer_done(parameters, gradients)?;
            match dx {
                Some(dx) => dy = dx,
                None => return Ok(()),
            }
        }
        self.embed_backward(parameters, batch, &dy, gradients)
    }
}

fn scaled(x: Tensor, factor: Option<f64>) -> Result<Tensor, Error> {
    match factor {
        Some(factor) => Ok((x * factor)?),
        None => Ok(x),
    }
}
