//! Training: examples → batches → prefix → suffix, loss and gradients → optimiser, until the steps are done.

use std::time::Instant;

use frostline_schemas::decoder::DecoderConfig;
use frostline_schemas::digest::Digest;
use frostline_schemas::examples::Example;
use frostline_schemas::folder::ModelFolder;
use frostline_schemas::run::{StepMetrics, TrainingSettings};

use crate::batches::{Batch, MAX_SIZE, Rows, check_size};
use crate::decoder::{Decoder, Listener};
use crate::device::{self, Device};
use crate::error::Error;
use crate::gradients::{self, Gradients, Squares};
use crate::optimizer::{AdamW, Rates, clip_factor};
use crate::parameters::{Parameters, Precision};
use crate::schedule;
use crate::scope::Scope;

/// How and where to train.
#[derive(Clone, Debug)]
pub struct Settings {
    pub training: TrainingSettings,
    pub device: Device,
    /// What is usual on the device where `None`.
    pub precision: Option<Precision>,
    /// Whether to keep of each layer its input alone, and compute the rest again.
    pub recompute: bool,
    /// Threads for the arithmetic; all that the machine has where `None`.
    pub threads: Option<usize>,
}

/// Hears of training as it goes on. An error stops it.
pub trait Observer: Send {
    /// Before the first step.
    fn started(&mut self, _start: &Start) -> Result<(), Error> {
        Ok(())
    }

    /// After each step.
    fn step(&mut self, metrics: &StepMetrics) -> Result<(), Error>;
}

/// Hears nothing.
impl Observer for () {
    fn step(&mut self, _: &StepMetrics) -> Result<(), Error> {
        Ok(())
    }
}

/// Two observers, one after the other.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn started(&mut self, start: &Start) -> Result<(), Error> {
        self.0.started(start)?;
        self.1.started(start)
    }

    fn step(&mut self, metrics: &StepMetrics) -> Result<(), Error> {
        self.0.step(metrics)?;
        self.1.step(metrics)
    }
}

impl<T: Observer + ?Sized> Observer for &mut T {
    fn started(&mut self, start: &Start) -> Result<(), Error> {
        (**self).started(start)
    }

    fn step(&mut self, metrics: &StepMetrics) -> Result<(), Error> {
        (**self).step(metrics)
    }
}

/// What is about to be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Layers whose output never changes.
    pub frost_line: usize,
    pub trained_tensors: usize,
    pub trained_parameters: u64,
    pub steps: u64,
}

/// A trained model.
pub struct Trained {
    pub decoder: Decoder,
    pub parameters: Parameters,
    /// Digest of the weights that training began from.
    pub base_weights: Digest,
}

/// Trains the tensors of a scope. `base_weights` is the digest of the model's weights.
///
/// # Errors
/// [`Error::Setting`] for settings that make no sense, [`Error::Unproved`] where the first step does not reach exactly
/// the scope's tensors, [`Error::Loss`], [`Error::Gradient`] and [`Error::Diverged`] where training diverges,
/// [`Error::Token`] and [`Error::TooLong`] for rows that the model cannot take, and what `observer` returns.
pub fn train(
    model: ModelFolder,
    base_weights: Digest,
    scope: Scope,
    examples: &[Example],
    settings: &Settings,
    observer: &mut dyn Observer,
) -> Result<Trained, Error> {
    check(&settings.training, examples)?;
    let ModelFolder { config, weights, .. } = model;
    warn(&config, examples, settings.training.batch_size);
    let precision = settings.precision.unwrap_or(Precision::of(settings.device));
    let parameters = Parameters::new(&config, weights, &scope, device::open(settings.device)?, precision)?;
    let decoder = Decoder::new(config, scope).recomputing(settings.recompute);
    decoder.check(examples)?;
    device::on_threads(settings.threads, || {
        let mut trainer = Trainer::new(decoder, parameters, settings.training.clone(), examples);
        observer.started(&trainer.start()?)?;
        for step in 0..settings.training.steps {
            observer.step(&trainer.step(step)?)?;
        }
        let Trainer { decoder, parameters, .. } = trainer;
        // The loss of a step is that before its update: nothing has seen what the last one did.
        parameters.check_finite()?;
        Ok(Trained { decoder, parameters, base_weights })
    })?
}

fn check(settings: &TrainingSettings, examples: &[Example]) -> Result<(), Error> {
    let none = |field, reason| Err(Error::Setting { field, value: "0".into(), reason });
    if examples.is_empty() {
        return none("examples", "there is nothing to train on");
    }
    if settings.steps == 0 {
        return none("steps", "at least one is needed");
    }
    if settings.batch_size == 0 {
        return none("batch size", "at least one row is needed");
    }
    if settings.accumulation == 0 {
        return none("accumulation", "a step has at least one micro-batch");
    }
    check_size(settings.batch_size, examples)?;
    if settings.batch_size.checked_mul(settings.accumulation).is_none_or(|rows| rows > MAX_SIZE) {
        let reason = "a step would take more than 16777216 rows";
        return Err(Error::Setting { field: "accumulation", value: settings.accumulation.to_string(), reason });
    }
    let numbers = [
        ("learning rate", settings.learning_rate),
        ("weight decay", settings.weight_decay),
        ("gradient clip", settings.gradient_clip.unwrap_or(1.0)),
    ];
    match numbers.into_iter().find(|(_, value)| !value.is_finite() || *value < 0.0) {
        Some((field, value)) => {
            Err(Error::Setting { field, value: value.to_string(), reason: "it must be a number of at least 0" })
        }
        None => Ok(()),
    }
}

/// Says what is allowed but seldom meant.
fn warn(config: &DecoderConfig, examples: &[Example], batch_size: usize) {
    if batch_size > examples.len() {
        tracing::warn!(batch_size, examples = examples.len(), "a batch is larger than the data set and repeats rows");
    }

    let longest = examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
    if longest > config.max_positions {
        tracing::warn!(longest, made_for = config.max_positions, "rows are longer than the model was made for");
    }
}

/// Training as it goes on.
struct Trainer<'a> {
    decoder: Decoder,
    parameters: Parameters,
    optimizer: AdamW,
    gradients: Gradients,
    settings: TrainingSettings,
    examples: &'a [Example],
    rows: Rows,
}

impl<'a> Trainer<'a> {
    fn new(
        decoder: Decoder,
        parameters: Parameters,
        settings: TrainingSettings,
        examples: &'a [Example],
    ) -> Trainer<'a> {
        Trainer {
            optimizer: AdamW::new(settings.weight_decay),
            gradients: Gradients::default(),
            rows: Rows::new(examples.len(), settings.order, settings.seed),
            decoder,
            parameters,
            settings,
            examples,
        }
    }

    fn start(&self) -> Result<Start, Error> {
        let mut parameters = 0;
        for (_, tensor) in self.parameters.trained() {
            parameters += tensor?.elem_count() as u64;
        }
        Ok(Start {
            frost_line: self.decoder.frost_line(),
            trained_tensors: self.decoder.scope().names().len(),
            trained_parameters: parameters,
            steps: self.settings.steps,
        })
    }

    /// Whether a layer can be updated as soon as its gradients are there, so that those of all layers need not stand in
    /// memory together: where nothing needs them together, neither a norm to clip by nor a further micro-batch.
    fn updates_at_once(&self) -> bool {
        let config = self.decoder.config();
        self.settings.gradient_clip.is_none()
            && self.settings.accumulation == 1
            && !self.decoder.scope().holds(&config.embedding)
    }

    /// One step, counted from 0.
    fn step(&mut self, step: u64) -> Result<StepMetrics, Error> {
        let begun = Instant::now();
        let rows = self.rows.take(self.settings.batch_size * self.settings.accumulation);
        let examples: Vec<&Example> = rows.iter().map(|&row| &self.examples[row]).collect();
        let targets: usize = examples.iter().map(|example| example.targets.len()).sum();
        let learning_rate = schedule::learning_rate(&self.settings, step);
        let (loss, squares) = match self.updates_at_once() {
            true => self.update_layer_by_layer(step, &examples, targets, learning_rate)?,
            false => self.update_at_the_end(step, &examples, targets, learning_rate)?,
        };
        if step == 0 {
            let zero = gradients::prove(&squares, self.decoder.scope())?;
            if !zero.is_empty() {
                tracing::warn!(tensors = zero.join(", "), "planned tensors with a gradient of zero everywhere");
            }
        }
        Ok(StepMetrics {
            step: step + 1,
            loss,
            learning_rate,
            gradient_norm: gradients::norm(&squares),
            tokens: examples.iter().map(|example| example.tokens.len() as u64).sum(),
            targets: targets as u64,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    /// Mean loss over all targets of the step and the squares of its gradients, each layer updated when it is done.
    fn update_layer_by_layer(
        &mut self,
        step: u64,
        examples: &[&Example],
        targets: usize,
        learning_rate: f64,
    ) -> Result<(f64, Squares), Error> {
        let scale = 1.0 / targets.max(1) as f64;
        let batch = Batch::new(examples.iter().copied());
        let boundary = self.decoder.prefix(&self.parameters, &batch)?;
        let rates = self.optimizer.begin(learning_rate, 1.0);
        let mut updating = Updating { step, scale, rates, optimizer: &mut self.optimizer, squares: Squares::new() };
        let (parameters, gradients) = (&mut self.parameters, &mut self.gradients);
        let loss = self.decoder.loss_and_gradients(parameters, &batch, boundary, scale, gradients, &mut updating)?;
        // What is above the layers, where no layer is trained.
        updating.layer_done(parameters, gradients)?;
        Ok((loss * scale, updating.squares))
    }

    /// The same, with one update when all micro-batches are done.
    fn update_at_the_end(
        &mut self,
        step: u64,
        examples: &[&Example],
        targets: usize,
        learning_rate: f64,
    ) -> Result<(f64, Squares), Error> {
        let scale = 1.0 / targets.max(1) as f64;
        let mut loss = 0.0;
        self.gradients.clear();
        for examples in examples.chunks(self.settings.batch_size) {
            let batch = Batch::new(examples.iter().copied());
            let (parameters, gradients) = (&mut self.parameters, &mut self.gradients);
            let boundary = self.decoder.prefix(parameters, &batch)?;
            loss += self.decoder.loss_and_gradients(parameters, &batch, boundary, scale, gradients, &mut ())?;
        }
        check_loss(step, loss * scale)?;
        let squares = self.gradients.squares()?;
        check_squares(step, &squares)?;
        let clip = clip_factor(gradients::norm(&squares), self.settings.gradient_clip);
        let rates = self.optimizer.begin(learning_rate, clip);
        self.optimizer.update(&mut self.parameters, &self.gradients, rates)?;
        Ok((loss * scale, squares))
    }
}

/// Updates each layer when its gradients are there.
struct Updating<'a> {
    step: u64,
    scale: f64,
    rates: Rates,
    optimizer: &'a mut AdamW,
    squares: Squares,
}

impl Listener for Updating<'_> {
    fn loss(&mut self, loss: f64) -> Result<(), Error> {
        check_loss(self.step, loss * self.scale)
    }

    fn layer_done(&mut self, parameters: &mut Parameters, gradients: &mut Gradients) -> Result<(), Error> {
        let squares = gradients.squares()?;
        check_squares(self.step, &squares)?;
        self.optimizer.update(parameters, gradients, self.rates)?;
        gradients.clear();
        self.squares.extend(squares);
        Ok(())
    }
}

fn check_loss(step: u64, loss: f64) -> Result<(), Error> {
    if loss.is_finite() { Ok(()) } else { Err(Error::Loss { step: step + 1, loss }) }
}

/// The first step is left to the proof, which names the tensors.
fn check_squares(step: u64, squares: &Squares) -> Result<(), Error> {
    let finite = squares.values().all(|square| square.is_finite());
    if finite || step == 0 { Ok(()) } else { Err(Error::Gradient { step: step + 1 }) }
}
