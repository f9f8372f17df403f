//! What looks at a training as it goes on.

use std::ops::ControlFlow;

use frostline_schemas::digest::Digest;
use frostline_schemas::run::StepMetrics;

use crate::error::Error;
use crate::model::Model;
use crate::train::optimizer::Optimizer;

/// Looks at a training as it goes on: to write metrics down, to show progress, to stop it. An error from any method ends
/// the training with that error.
pub trait Hook: Send {
    /// Once, before the first step: everything that can be checked has been, and the cache is filled.
    fn started(&mut self, _start: &Start) -> Result<(), Error> {
        Ok(())
    }

    /// While the cache is filled with states at the frost line, before [`started`](Hook::started); the first call says that
    /// none is done.
    fn caching(&mut self, _progress: Caching) -> Result<(), Error> {
        Ok(())
    }

    /// Before each step: the share of the training that has passed, where a clock decides on its length. The learning rate
    /// decays with that share, and from 1 on no further step is taken but the first. `None`: the settings' number of steps
    /// decides. It is one or the other for the whole training.
    fn passed(&mut self) -> Option<f64> {
        None
    }

    /// After each step; `Break` makes it the last one, after which all goes on as at the end of training.
    fn step(&mut self, _step: &Step) -> Result<ControlFlow<()>, Error> {
        Ok(ControlFlow::Continue(()))
    }

    /// After the last step, before anything is evaluated.
    fn trained(&mut self, _trained: &Trained) -> Result<(), Error> {
        Ok(())
    }

    /// While the trained model is evaluated: `done` of `all` rows.
    fn evaluating(&mut self, _done: usize, _all: usize) {}
}

/// What is about to be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Layers whose output never changes.
    pub frost_line: usize,
    /// Tensors that are trained.
    pub trained_tensors: usize,
    /// Elements of all of them.
    pub trained_parameters: u64,
    /// Steps to come; where a clock decides, as many as are expected.
    pub steps: u64,
    /// Whether a clock decides on the training's length: see [`Hook::passed`].
    pub by_clock: bool,
}

/// How far the cache has been filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caching {
    /// States computed.
    pub done: usize,
    /// States that were missing.
    pub all: usize,
    /// What all of them take on disk.
    pub bytes: u64,
}

/// A step that was taken.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// What is written down of it.
    pub metrics: &'a StepMetrics,
    /// The model after the update.
    pub model: &'a Model,
    /// The optimiser with its state.
    pub optimizer: &'a dyn Optimizer,
}

/// A trained model.
pub struct Trained {
    /// The model.
    pub model: Model,
    /// Digest of the weights that training began from.
    pub base_weights: Digest,
    /// Seconds that training took, without what hooks do at its end.
    pub seconds: f64,
}

/// Looks at nothing.
impl Hook for () {}

impl<T: Hook + ?Sized> Hook for &mut T {
    fn started(&mut self, start: &Start) -> Result<(), Error> {
        (**self).started(start)
    }

    fn caching(&mut self, progress: Caching) -> Result<(), Error> {
        (**self).caching(progress)
    }

    fn passed(&mut self) -> Option<f64> {
        (**self).passed()
    }

    fn step(&mut self, step: &Step) -> Result<ControlFlow<()>, Error> {
        (**self).step(step)
    }

    fn trained(&mut self, trained: &Trained) -> Result<(), Error> {
        (**self).trained(trained)
    }

    fn evaluating(&mut self, done: usize, all: usize) {
        (**self).evaluating(done, all);
    }
}

/// Several hooks, in their order; the first error ends it.
#[derive(Default)]
pub struct Hooks<'a>(Vec<Box<dyn Hook + 'a>>);

impl<'a> Hooks<'a> {
    /// The same with another hook behind the others.
    pub fn with(mut self, hook: impl Hook + 'a) -> Hooks<'a> {
        self.0.push(Box::new(hook));
        self
    }
}

impl Hook for Hooks<'_> {
    fn started(&mut self, start: &Start) -> Result<(), Error> {
        self.0.iter_mut().try_for_each(|hook| hook.started(start))
    }

    fn caching(&mut self, progress: Caching) -> Result<(), Error> {
        self.0.iter_mut().try_for_each(|hook| hook.caching(progress))
    }

    /// The first that has a clock decides.
    fn passed(&mut self) -> Option<f64> {
        self.0.iter_mut().find_map(|hook| hook.passed())
    }

    /// All of them see the step; any of them can make it the last.
    fn step(&mut self, step: &Step) -> Result<ControlFlow<()>, Error> {
        let mut flow = ControlFlow::Continue(());
        for hook in &mut self.0 {
            if hook.step(step)?.is_break() {
                flow = ControlFlow::Break(());
            }
        }
        Ok(flow)
    }

    fn trained(&mut self, trained: &Trained) -> Result<(), Error> {
        self.0.iter_mut().try_for_each(|hook| hook.trained(trained))
    }

    fn evaluating(&mut self, done: usize, all: usize) {
        self.0.iter_mut().for_each(|hook| hook.evaluating(done, all));
    }
}
