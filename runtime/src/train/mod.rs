//! Training: examples → batches → prefix → suffix, loss and gradients → optimiser, until the steps are done.

pub mod dry_run;
pub mod optimizer;
pub mod schedule;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use frostline_schemas::data::Example;
use frostline_schemas::digest::Digest;
use frostline_schemas::model::DecoderConfig;
use frostline_schemas::model::{ModelFolder, ModelIdentity};
use frostline_schemas::plan::ExampleFrostLines;
use frostline_schemas::run::{Order, StepMetrics, TrainingSettings};

use self::optimizer::{AdamW, clip_factor};
use crate::cache::source::{self, Boundary, CacheSettings};
use crate::data::{Batch, MAX_SIZE, Rows, check_size};
use crate::error::Error;
use crate::model::adapters;
use crate::model::coverage;
use crate::model::decoder::{Decoder, Listener};
use crate::model::gradients::{self, Gradients, Squares};
use crate::model::parameters::{ComputePrecision, Parameters};
use crate::model::scope::Scope;
use crate::system::allocator::Keeping;
use crate::system::device::{self, Device};

/// How and where to train.
#[derive(Clone, Debug)]
pub struct TrainSettings {
    pub training: TrainingSettings,
    pub device: Device,
    /// What is usual on the device where `None`.
    pub precision: Option<ComputePrecision>,
    /// Whether to keep of each layer its input alone, and compute the rest again.
    pub recompute: bool,
    /// Whether states at the frost line are kept on disk.
    pub cache: Option<CacheSettings>,
    /// Frost lines of examples, and that of all others: batches are of like depth then, and each goes only as deep as
    /// its rows need. `None`: all go as deep as the scope.
    pub depths: Option<(Arc<ExampleFrostLines>, usize)>,
    /// Threads for the arithmetic; all that the machine has where `None`.
    pub threads: Option<usize>,
}

impl TrainSettings {
    /// On the CPU, on all its cores, without a cache.
    pub fn new(training: TrainingSettings) -> TrainSettings {
        TrainSettings {
            training,
            device: Device::Cpu,
            precision: None,
            recompute: false,
            cache: None,
            depths: None,
            threads: None,
        }
    }
}

/// Hears of training as it goes on. An error stops it.
pub trait Observer: Send {
    /// Before the first step, when all that could be refused has not been.
    fn started(&mut self, _start: &Start) -> Result<(), Error> {
        Ok(())
    }

    /// While states at the frost line are computed for the cache: `done` of `all`, which take `bytes` on disk; first of
    /// all with none done.
    fn caching(&mut self, _done: usize, _all: usize, _bytes: u64) -> Result<(), Error> {
        Ok(())
    }

    /// After each step.
    fn step(&mut self, metrics: &StepMetrics) -> Result<(), Error>;

    /// While the trained model is evaluated: `done` of `all` rows.
    fn evaluating(&mut self, _done: usize, _all: usize) {}
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

    fn caching(&mut self, done: usize, all: usize, bytes: u64) -> Result<(), Error> {
        self.0.caching(done, all, bytes)?;
        self.1.caching(done, all, bytes)
    }

    fn step(&mut self, metrics: &StepMetrics) -> Result<(), Error> {
        self.0.step(metrics)?;
        self.1.step(metrics)
    }

    fn evaluating(&mut self, done: usize, all: usize) {
        self.0.evaluating(done, all);
        self.1.evaluating(done, all);
    }
}

impl<T: Observer + ?Sized> Observer for &mut T {
    fn started(&mut self, start: &Start) -> Result<(), Error> {
        (**self).started(start)
    }

    fn caching(&mut self, done: usize, all: usize, bytes: u64) -> Result<(), Error> {
        (**self).caching(done, all, bytes)
    }

    fn step(&mut self, metrics: &StepMetrics) -> Result<(), Error> {
        (**self).step(metrics)
    }

    fn evaluating(&mut self, done: usize, all: usize) {
        (**self).evaluating(done, all);
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

/// Trains the tensors of a scope. `identity` is the model's own.
///
/// # Errors
/// [`Error::Setting`] for settings that make no sense, [`Error::Coverage`] where the first step does not reach exactly
/// the scope's tensors, [`Error::Loss`], [`Error::Gradient`] and [`Error::Diverged`] where training diverges,
/// [`Error::Token`] and [`Error::TooLong`] for rows that the model cannot take, and what `observer` returns.
pub fn train(
    model: ModelFolder,
    identity: &ModelIdentity,
    scope: Scope,
    examples: &[Example],
    settings: &TrainSettings,
    observer: &mut dyn Observer,
) -> Result<Trained, Error> {
    let (decoder, parameters) = prepare(model, scope, examples, settings)?;
    device::on_threads(settings.threads, || {
        let mut trainer = Trainer::new(decoder, parameters, settings, examples);
        trainer.check_reach(examples)?;
        let start = trainer.start()?;
        let boundary = trainer.boundary(settings.cache.as_ref(), identity, examples, observer)?;
        observer.started(&start)?;
        trainer.run(&boundary, examples, observer)?;
        let Trainer { decoder, parameters, .. } = trainer;
        // The loss of a step is that before its update: nothing has seen what the last one did.
        parameters.check_finite()?;
        Ok(Trained { decoder, parameters, base_weights: identity.weights })
    })?
}

/// Checks settings and rows, and opens the model on its device.
pub(crate) fn prepare(
    model: ModelFolder,
    scope: Scope,
    examples: &[Example],
    settings: &TrainSettings,
) -> Result<(Decoder, Parameters), Error> {
    check(&settings.training, examples)?;
    if settings.depths.is_some() && settings.training.order == Order::File {
        let reason =
            "batches of like depth cannot keep the file's order; leave the order out, or plan without --per-example";
        return Err(Error::Setting { field: "order", value: "file".into(), reason });
    }
    warn(&model.config, examples, settings.training.batch_size);
    let (decoder, mut parameters) = Decoder::open(model, scope, settings.device, settings.precision)?;
    adapters::initialise(decoder.scope().adapters(), &mut parameters, settings.training.seed)?;
    let decoder = decoder.recomputing(settings.recompute);
    decoder.check(examples)?;
    Ok((decoder, parameters))
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

/// The rows of one micro-batch, side by side, and what the cache knows of them.
#[derive(Clone)]
pub(crate) struct Prepared {
    pub batch: Batch,
    /// State at the frost line, [places · hidden].
    pub state: Option<Vec<f32>>,
}

impl Prepared {
    /// The micro-batches of a step that takes these rows, each as deep as the deepest of its rows.
    fn step(
        rows: &[usize],
        examples: &[Example],
        depths: &[usize],
        batch_size: usize,
        boundary: &Boundary,
    ) -> Vec<Prepared> {
        let micro_batch = |rows: &[usize]| {
            let frost_line = rows.iter().filter_map(|&row| depths.get(row)).min().copied().unwrap_or(0);
            let examples: Vec<&Example> = rows.iter().map(|&row| &examples[row]).collect();
            Prepared { state: boundary.read(&examples), batch: Batch { frost_line, ..Batch::new(examples) } }
        };
        rows.chunks(batch_size).map(micro_batch).collect()
    }
}

/// Steps among which a dry run looks for the largest.
const MAX_LOOKED_AT: u64 = 1 << 16;

/// Training as it goes on.
pub(crate) struct Trainer {
    pub decoder: Decoder,
    pub parameters: Parameters,
    optimizer: AdamW,
    gradients: Gradients,
    settings: TrainingSettings,
    /// Of each row the layers that need no gradient; empty where all go as deep as the scope.
    depths: Vec<usize>,
    /// Down to this layer every tensor was seen to receive a gradient.
    covered: usize,
    _keeping: Keeping,
}

impl Trainer {
    pub fn new(decoder: Decoder, parameters: Parameters, settings: &TrainSettings, examples: &[Example]) -> Trainer {
        let depth = |(depths, others): &(Arc<ExampleFrostLines>, usize)| -> Vec<usize> {
            examples.iter().map(|example| depths.of(example).unwrap_or(*others)).collect()
        };
        Trainer {
            optimizer: AdamW::new(settings.training.weight_decay),
            gradients: Gradients::default(),
            decoder,
            parameters,
            settings: settings.training.clone(),
            depths: settings.depths.as_ref().map(depth).unwrap_or_default(),
            covered: usize::MAX,
            _keeping: Keeping::new(),
        }
    }

    fn rows(&self, examples: &[Example]) -> Rows {
        let lengths = examples.iter().map(|example| example.tokens.len()).collect();
        Rows::new(lengths, self.settings.order, self.settings.seed, self.settings.batch_size).of_depths(&self.depths)
    }

    fn rows_per_step(&self) -> usize {
        self.settings.batch_size * self.settings.accumulation
    }

    /// Rows of all steps, counted as often as they come.
    fn visits(&self) -> u64 {
        self.settings.steps.saturating_mul(self.rows_per_step() as u64)
    }

    /// Refuses rows with depths of their own of which a run this short takes none that reaches the deepest layer to
    /// train: it would stay as it is.
    pub fn check_reach(&self, examples: &[Example]) -> Result<(), Error> {
        if self.depths.is_empty() {
            return Ok(());
        }
        let planned = self.decoder.frost_line();
        let rows = self.rows(examples).take(self.visits().min(examples.len() as u64) as usize);
        match rows.into_iter().filter_map(|row| self.depths.get(row)).min() {
            Some(&deepest) if deepest > planned => {
                Err(Error::Unreached { steps: self.settings.steps, deepest, planned })
            }
            _ => Ok(()),
        }
    }

    /// The step that keeps the most, and the one of two hundred whose work is nearest to the mean.
    pub fn typical_steps(&self, examples: &[Example]) -> (Vec<Prepared>, Vec<Prepared>) {
        const USUAL: u64 = 200;
        let layers = self.decoder.config().layers.len();
        let depth = |rows: &[usize]| {
            let deepest = rows.iter().filter_map(|&row| self.depths.get(row)).min();
            deepest.copied().unwrap_or(0).max(self.decoder.frost_line())
        };
        let tokens = |rows: &[usize]| rows.iter().map(|&row| examples[row].tokens.len()).sum::<usize>();
        let of_micro_batches = |step: &[usize], count: &dyn Fn(&[usize]) -> usize| -> usize {
            step.chunks(self.settings.batch_size).map(count).sum()
        };
        // A trained layer costs its forward and twice that for gradients, a frozen one the forward alone.
        let work_of = |rows: &[usize]| tokens(rows) * (3 * layers - 2 * depth(rows));
        let work = |step: &[usize]| of_micro_batches(step, &work_of);
        let kept = |step: &[usize]| of_micro_batches(step, &|rows| tokens(rows) * (layers - depth(rows)));
        let all: usize = (0..examples.len()).map(|row| work_of(&[row])).sum();
        let mean = (all as f64 / examples.len().max(1) as f64 * self.rows_per_step() as f64) as usize;
        let mut rows = self.rows(examples);
        let (mut largest, mut usual) = (Vec::new(), Vec::new());
        for number in 0..self.settings.steps.min(MAX_LOOKED_AT) {
            let step = rows.take(self.rows_per_step());
            if number == 0 || (number < USUAL && work(&step).abs_diff(mean) < work(&usual).abs_diff(mean)) {
                usual = step.clone();
            }
            if kept(&step) > kept(&largest) {
                largest = step;
            }
        }
        let [largest, usual] = [largest, usual]
            .map(|rows| Prepared::step(&rows, examples, &self.depths, self.settings.batch_size, &Boundary::computed()));
        (largest, usual)
    }

    /// Where the states at the frost line come from; of the rows alone that the run will see.
    fn boundary(
        &self,
        settings: Option<&CacheSettings>,
        identity: &ModelIdentity,
        examples: &[Example],
        observer: &mut dyn Observer,
    ) -> Result<Boundary, Error> {
        let Some(settings) = settings.filter(|_| self.decoder.frost_line() > 0) else {
            return Ok(Boundary::computed());
        };
        let visits = self.visits();
        let seen: Cow<[Example]> = if visits >= examples.len() as u64 {
            Cow::Borrowed(examples)
        } else {
            let mut rows = self.rows(examples).take(visits as usize);
            rows.sort_unstable();
            rows.dedup();
            Cow::Owned(rows.into_iter().map(|row| examples[row].clone()).collect())
        };
        let model = (&self.decoder, &self.parameters);
        let mut caching = |done, all, bytes| observer.caching(done, all, bytes);
        Boundary::open(settings, model, identity, &seen, visits, self.settings.batch_size, &mut caching)
    }

    /// All steps; a thread of its own prepares the next while one is computed.
    fn run(&mut self, boundary: &Boundary, examples: &[Example], observer: &mut dyn Observer) -> Result<(), Error> {
        let mut rows = self.rows(examples);
        let (per_step, batch_size, steps) = (self.rows_per_step(), self.settings.batch_size, self.settings.steps);
        let depths = self.depths.clone();
        std::thread::scope(|scope| {
            let (sender, receiver) = std::sync::mpsc::sync_channel(1);
            scope.spawn(move || {
                let mut next = || Prepared::step(&rows.take(per_step), examples, &depths, batch_size, boundary);
                // Whoever stops listening has stopped training.
                (0..steps).try_for_each(|_| sender.send(next()))
            });
            for step in 0..steps {
                let begun = Instant::now();
                let prepared = receiver.recv().map_err(|_| Error::Internal("the thread that prepares batches"))?;
                observer.step(&self.step(step, prepared, begun)?)?;
            }
            Ok(())
        })
    }

    pub fn start(&self) -> Result<Start, Error> {
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
    pub fn step(&mut self, step: u64, prepared: Vec<Prepared>, begun: Instant) -> Result<StepMetrics, Error> {
        let tokens = prepared.iter().map(|prepared| prepared.batch.tokens.len() as u64).sum();
        let targets = prepared.iter().map(|prepared| prepared.batch.targets.len()).sum();
        let learning_rate = schedule::learning_rate(&self.settings, step);
        let deepest = prepared.iter().map(|prepared| prepared.batch.frost_line).min().unwrap_or(0);
        let frost_line = deepest.max(self.decoder.frost_line());
        let (loss, squares) = match self.updates_at_once() {
            true => self.update_layer_by_layer(step, prepared, targets, learning_rate)?,
            false => self.update_at_the_end(step, prepared, targets, learning_rate)?,
        };
        if frost_line < self.covered {
            let scope = self.decoder.scope().reached_above(self.decoder.config(), frost_line);
            let zero = coverage::check_coverage(&squares, &scope)?;
            self.covered = frost_line;
            if !zero.is_empty() {
                tracing::warn!(tensors = zero.join(", "), "planned tensors with a gradient of zero everywhere");
            }
        }
        Ok(StepMetrics {
            step: step + 1,
            loss,
            learning_rate,
            gradient_norm: gradients::norm(&squares),
            tokens,
            targets: targets as u64,
            frost_line: (!self.depths.is_empty()).then_some(frost_line),
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    /// Mean loss over all targets of the step and the squares of its gradients, each layer updated when it is done.
    fn update_layer_by_layer(
        &mut self,
        step: u64,
        prepared: Vec<Prepared>,
        targets: usize,
        learning_rate: f64,
    ) -> Result<(f64, Squares), Error> {
        let scale = 1.0 / targets.max(1) as f64;
        let rates = optimizer::Step { learning_rate, clip: 1.0 };
        let mut updating = Updating { step, scale, rates, optimizer: &mut self.optimizer, squares: Squares::new() };
        let (decoder, parameters, gradients) = (&self.decoder, &mut self.parameters, &mut self.gradients);
        let loss = loss_and_gradients(decoder, prepared, scale, (parameters, gradients), &mut updating)?;
        // What is above the layers, where no layer is trained.
        updating.layer_done(parameters, gradients)?;
        Ok((loss * scale, updating.squares))
    }

    /// The same, with one update when all micro-batches are done.
    fn update_at_the_end(
        &mut self,
        step: u64,
        prepared: Vec<Prepared>,
        targets: usize,
        learning_rate: f64,
    ) -> Result<(f64, Squares), Error> {
        let scale = 1.0 / targets.max(1) as f64;
        self.gradients.clear();
        let (decoder, parameters, gradients) = (&self.decoder, &mut self.parameters, &mut self.gradients);
        let loss = loss_and_gradients(decoder, prepared, scale, (parameters, gradients), &mut ())?;
        check_loss(step, loss * scale)?;
        let squares = gradients.squares()?;
        check_squares(step, &squares)?;
        let clip = clip_factor(gradients::norm(&squares), self.settings.gradient_clip);
        let rates = optimizer::Step { learning_rate, clip };
        self.optimizer.update(parameters, gradients, rates)?;
        Ok((loss * scale, squares))
    }
}

/// Σ −ln p(target) over all micro-batches, and the gradients of `scale` times it.
fn loss_and_gradients(
    decoder: &Decoder,
    prepared: Vec<Prepared>,
    scale: f64,
    (parameters, gradients): (&mut Parameters, &mut Gradients),
    listener: &mut dyn Listener,
) -> Result<f64, Error> {
    let mut loss = 0.0;
    for Prepared { batch, state } in prepared {
        let state = source::state(state, decoder, parameters, &batch)?;
        loss += decoder.loss_and_gradients(parameters, &batch, state, scale, gradients, listener)?;
    }
    Ok(loss)
}

/// Updates each layer when its gradients are there.
struct Updating<'a> {
    step: u64,
    scale: f64,
    rates: optimizer::Step,
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
