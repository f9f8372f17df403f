//! One step after the other: batches → prefix → suffix, loss and gradients → optimiser.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::time::Instant;

use frostline_schemas::data::Example;
use frostline_schemas::model::{ModelFolder, ModelIdentity};
use frostline_schemas::run::{StepMetrics, TrainingSettings};

use crate::cache::{self, CacheSettings, CachedStates, Filling, StateSource};
use crate::data::{Batch, Sampler};
use crate::error::Error;
use crate::model::{
    GradientObserver, Gradients, Loss, Model, Objective, Parameters, Scope, Squares, check_coverage, gradient_norm,
};
use crate::system::ReuseBuffers;
use crate::train::algorithm::Algorithm;
use crate::train::hook::{Caching, Hook, Start, Step};
use crate::train::optimizer::{Optimizer, Update, clip_factor};
use crate::train::schedule;
use crate::train::settings::{TrainSettings, check, warn};

/// The rows of one micro-batch, side by side, and what the cache knows of them.
#[derive(Clone)]
pub(crate) struct MicroBatch {
    pub batch: Batch,
    /// State at the frost line, [tokens · hidden].
    pub state: Option<CachedStates>,
}

/// Steps among which a dry run looks for the largest.
const MAX_LOOKED_AT: u64 = 1 << 16;

/// The two steps that a dry run takes.
pub(crate) struct TypicalSteps {
    /// The step that keeps the most in memory.
    pub largest: Vec<MicroBatch>,
    /// The one of two hundred whose work is nearest to the mean.
    pub usual: Vec<MicroBatch>,
}

/// Training as it goes on.
pub(crate) struct Trainer<'a> {
    pub model: Model,
    examples: &'a [Example],
    optimizer: Box<dyn Optimizer>,
    loss: Box<dyn Loss>,
    gradients: Gradients,
    settings: TrainingSettings,
    /// The frost line of each row; empty where all go back as far as the scope.
    frost_lines: Vec<usize>,
    /// Down to this layer every tensor was seen to receive a gradient.
    covered: usize,
    _reuse: ReuseBuffers,
}

impl<'a> Trainer<'a> {
    pub(super) fn new(
        model: Model,
        algorithm: Algorithm,
        settings: &TrainSettings,
        examples: &'a [Example],
    ) -> Trainer<'a> {
        let of_rows = settings.frost_lines.as_ref().map(|lines| examples.iter().map(|row| lines.of(row)).collect());
        Trainer {
            optimizer: algorithm.optimizer,
            loss: algorithm.loss,
            gradients: Gradients::default(),
            model,
            examples,
            settings: settings.training.clone(),
            frost_lines: of_rows.unwrap_or_default(),
            covered: usize::MAX,
            _reuse: ReuseBuffers::new(),
        }
    }

    fn sampler(&self) -> Sampler {
        let lengths = self.examples.iter().map(|example| example.tokens.len()).collect();
        let settings = &self.settings;
        Sampler::new(lengths, settings.order, settings.seed, settings.batch_size).grouped_by(&self.frost_lines)
    }

    fn rows_per_step(&self) -> usize {
        self.settings.batch_size * self.settings.accumulation
    }

    /// Rows of all steps, counted as often as they come.
    fn visits(&self) -> u64 {
        self.settings.steps.saturating_mul(self.rows_per_step() as u64)
    }

    /// Refuses rows with frost lines of their own of which a run this short takes none that reaches the deepest layer to
    /// train: it would stay as it is.
    pub(super) fn check_reach(&self) -> Result<(), Error> {
        if self.frost_lines.is_empty() {
            return Ok(());
        }
        let planned = self.model.frost_line();
        let rows = self.sampler().take(self.visits().min(self.examples.len() as u64) as usize);
        match rows.into_iter().filter_map(|row| self.frost_lines.get(row)).min() {
            Some(&deepest) if deepest > planned => {
                Err(Error::Unreached { steps: self.settings.steps, deepest, planned })
            }
            _ => Ok(()),
        }
    }

    /// The steps that tell most about a run's time and memory.
    pub(super) fn typical_steps(&self) -> TypicalSteps {
        const USUAL: u64 = 200;
        let layers = self.model.config().layers.len();
        let frost_line = |rows: &[usize]| {
            let deepest = rows.iter().filter_map(|&row| self.frost_lines.get(row)).min();
            deepest.copied().unwrap_or(0).max(self.model.frost_line())
        };
        let tokens = |rows: &[usize]| rows.iter().map(|&row| self.examples[row].tokens.len()).sum::<usize>();
        let of_micro_batches = |step: &[usize], count: &dyn Fn(&[usize]) -> usize| -> usize {
            step.chunks(self.settings.batch_size).map(count).sum()
        };
        // A trained layer costs its forward and twice that for gradients, a frozen one the forward alone.
        let work_of = |rows: &[usize]| tokens(rows) * (3 * layers - 2 * frost_line(rows));
        let work = |step: &[usize]| of_micro_batches(step, &work_of);
        let kept = |step: &[usize]| of_micro_batches(step, &|rows| tokens(rows) * (layers - frost_line(rows)));
        let all: usize = (0..self.examples.len()).map(|row| work_of(&[row])).sum();
        let mean = (all as f64 / self.examples.len().max(1) as f64 * self.rows_per_step() as f64) as usize;
        let mut sampler = self.sampler();
        let (mut largest, mut usual) = (Vec::new(), Vec::new());
        for number in 0..self.settings.steps.min(MAX_LOOKED_AT) {
            let step = sampler.take(self.rows_per_step());
            if number == 0 || (number < USUAL && work(&step).abs_diff(mean) < work(&usual).abs_diff(mean)) {
                usual = step.clone();
            }
            if kept(&step) > kept(&largest) {
                largest = step;
            }
        }
        let computed = StateSource::computed();
        TypicalSteps { largest: self.micro_batches(&largest, &computed), usual: self.micro_batches(&usual, &computed) }
    }

    /// The micro-batches of a step that takes these rows, each as deep as the deepest of its rows.
    fn micro_batches(&self, rows: &[usize], source: &StateSource) -> Vec<MicroBatch> {
        micro_batches(rows, self.examples, &self.frost_lines, self.settings.batch_size, source)
    }

    /// Where the states at the frost line come from; of the rows alone that the run will see.
    pub(super) fn state_source(
        &self,
        settings: Option<&CacheSettings>,
        identity: &ModelIdentity,
        hook: &mut dyn Hook,
    ) -> Result<StateSource, Error> {
        let Some(settings) = settings.filter(|_| self.model.frost_line() > 0) else {
            return Ok(StateSource::computed());
        };
        let visits = self.visits();
        let seen: Cow<[Example]> = if visits >= self.examples.len() as u64 {
            Cow::Borrowed(self.examples)
        } else {
            let mut rows = self.sampler().take(visits as usize);
            rows.sort_unstable();
            rows.dedup();
            Cow::Owned(rows.into_iter().map(|row| self.examples[row].clone()).collect())
        };
        let filling = Filling { examples: &seen, visits, batch_size: self.settings.batch_size };
        let mut caching = |done, all, bytes| hook.caching(Caching { done, all, bytes });
        StateSource::open(settings, &self.model, identity, filling, &mut caching)
    }

    /// All steps, or as many as the hook's clock and the hook allow; a thread of its own prepares the next while one is
    /// computed.
    pub(super) fn run(&mut self, source: &StateSource, hook: &mut dyn Hook) -> Result<(), Error> {
        let mut sampler = self.sampler();
        let (per_step, batch_size) = (self.rows_per_step(), self.settings.batch_size);
        let steps = if hook.passed().is_some() { u64::MAX } else { self.settings.steps };
        let (examples, frost_lines) = (self.examples, self.frost_lines.clone());
        std::thread::scope(|scope| {
            let (sender, receiver) = std::sync::mpsc::sync_channel(1);
            scope.spawn(move || {
                let mut next = || micro_batches(&sampler.take(per_step), examples, &frost_lines, batch_size, source);
                // Whoever stops receiving has stopped training.
                (0..steps).try_for_each(|_| sender.send(next()))
            });
            for step in 0..steps {
                let passed = hook.passed().unwrap_or_else(|| schedule::passed(&self.settings, step));
                if passed >= 1.0 && step > 0 {
                    break;
                }
                let begun = Instant::now();
                let batches = receiver.recv().map_err(|_| Error::Internal("the thread that prepares batches"))?;
                if self.take(step, passed, batches, begun, hook)?.is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// What is about to be trained.
    pub(super) fn start(&self, hook: &mut dyn Hook) -> Result<Start, Error> {
        let mut parameters = 0;
        for (_, tensor) in self.model.parameters().trained() {
            parameters += tensor?.elem_count() as u64;
        }
        Ok(Start {
            frost_line: self.model.frost_line(),
            trained_tensors: self.model.scope().names().len(),
            trained_parameters: parameters,
            steps: self.settings.steps,
            by_clock: hook.passed().is_some(),
        })
    }

    /// Whether a layer can be updated as soon as its gradients are there, so that those of all layers need not stand in
    /// memory together: where nothing needs them together, neither a norm to clip by nor a further micro-batch.
    fn updates_at_once(&self) -> bool {
        let config = self.model.config();
        self.settings.gradient_clip.is_none()
            && self.settings.accumulation == 1
            && !self.model.scope().holds(&config.embedding)
    }

    /// Takes one step, counted from 0, before which a share of the training has passed, and shows it to the hook, which may
    /// make it the last.
    pub(super) fn take(
        &mut self,
        step: u64,
        passed: f64,
        batches: Vec<MicroBatch>,
        begun: Instant,
        hook: &mut dyn Hook,
    ) -> Result<ControlFlow<()>, Error> {
        let metrics = self.step(step, passed, batches, begun)?;
        hook.step(&Step { metrics: &metrics, model: &self.model, optimizer: self.optimizer.as_ref() })
    }

    fn step(&mut self, step: u64, passed: f64, batches: Vec<MicroBatch>, begun: Instant) -> Result<StepMetrics, Error> {
        let tokens = batches.iter().map(|micro| micro.batch.tokens.len() as u64).sum();
        let targets = batches.iter().map(|micro| micro.batch.targets.len()).sum();
        let learning_rate = schedule::learning_rate(&self.settings, step, passed);
        let deepest = batches.iter().map(|micro| micro.batch.frost_line).min().unwrap_or(0);
        let frost_line = deepest.max(self.model.frost_line());
        let (loss, squares) = match self.updates_at_once() {
            true => self.update_layer_by_layer(step, batches, targets, learning_rate)?,
            false => self.update_at_the_end(step, batches, targets, learning_rate)?,
        };
        if frost_line < self.covered {
            let scope = self.model.scope().reached_above(self.model.config(), frost_line);
            let zero = check_coverage(&squares, &scope)?;
            self.covered = frost_line;
            if !zero.is_empty() {
                tracing::warn!(tensors = zero.join(", "), "planned tensors with a gradient of zero everywhere");
            }
        }
        Ok(StepMetrics {
            step: step + 1,
            loss,
            learning_rate,
            gradient_norm: gradient_norm(&squares),
            tokens,
            targets: targets as u64,
            frost_line: (!self.frost_lines.is_empty()).then_some(frost_line),
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    /// Mean loss over all targets of the step and the squares of its gradients, each layer updated when it is done.
    fn update_layer_by_layer(
        &mut self,
        step: u64,
        batches: Vec<MicroBatch>,
        targets: usize,
        learning_rate: f64,
    ) -> Result<(f64, Squares), Error> {
        let scale = 1.0 / targets.max(1) as f64;
        let update = Update { learning_rate, clip: 1.0 };
        let optimizer = self.optimizer.as_mut();
        let mut updating = Updating { step, scale, update, optimizer, squares: Squares::new() };
        let objective = Objective { loss: self.loss.as_ref(), scale };
        let loss = loss_and_gradients(&mut self.model, batches, objective, &mut self.gradients, &mut updating)?;
        // What is above the layers, where no layer is trained.
        updating.layer_done(self.model.parameters_mut(), &mut self.gradients)?;
        Ok((loss * scale, updating.squares))
    }

    /// The same, with one update when all micro-batches are done.
    fn update_at_the_end(
        &mut self,
        step: u64,
        batches: Vec<MicroBatch>,
        targets: usize,
        learning_rate: f64,
    ) -> Result<(f64, Squares), Error> {
        let scale = 1.0 / targets.max(1) as f64;
        self.gradients.clear();
        let objective = Objective { loss: self.loss.as_ref(), scale };
        let loss = loss_and_gradients(&mut self.model, batches, objective, &mut self.gradients, &mut ())?;
        check_loss(step, loss * scale)?;
        let squares = self.gradients.squares()?;
        check_squares(step, &squares)?;
        let clip = clip_factor(gradient_norm(&squares), self.settings.gradient_clip);
        self.optimizer.update(self.model.parameters_mut(), &self.gradients, Update { learning_rate, clip })?;
        Ok((loss * scale, squares))
    }
}

/// Checks settings and rows, and opens the model on its device.
pub(crate) fn prepare(
    folder: ModelFolder,
    scope: Scope,
    examples: &[Example],
    settings: &TrainSettings,
) -> Result<Model, Error> {
    check(settings, examples)?;
    warn(&folder.config, examples, settings.training.batch_size);
    let mut model = Model::open(folder, scope, settings.device, settings.precision)?.recomputing(settings.recompute);
    model.initialise_adapters(settings.training.seed)?;
    model.check(examples)?;
    Ok(model)
}

fn micro_batches(
    rows: &[usize],
    examples: &[Example],
    frost_lines: &[usize],
    batch_size: usize,
    source: &StateSource,
) -> Vec<MicroBatch> {
    let micro_batch = |rows: &[usize]| {
        let frost_line = rows.iter().filter_map(|&row| frost_lines.get(row)).min().copied().unwrap_or(0);
        let examples: Vec<&Example> = rows.iter().map(|&row| &examples[row]).collect();
        MicroBatch { state: source.read(&examples), batch: Batch { frost_line, ..Batch::new(examples) } }
    };
    rows.chunks(batch_size).map(micro_batch).collect()
}

/// The sum of all targets' losses over all micro-batches, and the gradients of the objective.
fn loss_and_gradients(
    model: &mut Model,
    batches: Vec<MicroBatch>,
    objective: Objective,
    gradients: &mut Gradients,
    observer: &mut dyn GradientObserver,
) -> Result<f64, Error> {
    let mut loss = 0.0;
    for MicroBatch { batch, state } in batches {
        let state = cache::state(state, model, &batch)?;
        loss += model.loss_and_gradients(&batch, state, objective, gradients, observer)?;
    }
    Ok(loss)
}

/// Updates each layer when its gradients are there.
struct Updating<'a> {
    step: u64,
    scale: f64,
    update: Update,
    optimizer: &'a mut dyn Optimizer,
    squares: Squares,
}

impl GradientObserver for Updating<'_> {
    fn loss(&mut self, loss: f64) -> Result<(), Error> {
        check_loss(self.step, loss * self.scale)
    }

    fn layer_done(&mut self, parameters: &mut Parameters, gradients: &mut Gradients) -> Result<(), Error> {
        let squares = gradients.squares()?;
        check_squares(self.step, &squares)?;
        self.optimizer.update(parameters, gradients, self.update)?;
        gradients.clear();
        self.squares.extend(squares);
        Ok(())
    }
}

fn check_loss(step: u64, loss: f64) -> Result<(), Error> {
    if loss.is_finite() { Ok(()) } else { Err(Error::Loss { step: step + 1, loss }) }
}

/// The first step is left to the coverage check, which names the tensors.
fn check_squares(step: u64, squares: &Squares) -> Result<(), Error> {
    let finite = squares.values().all(|square| square.is_finite());
    if finite || step == 0 { Ok(()) } else { Err(Error::Gradient { step: step + 1 }) }
}
