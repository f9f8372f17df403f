//! How far planning has come, and the threads that it runs on.

use std::sync::mpsc::{Sender, channel};

use crate::error::{Error, Result};

/// Stack of a thread, in bytes: as large as a main thread's, since optimisers of graphs recurse.
const STACK: usize = 8 << 20;

/// A stage of planning that takes a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading and hashing model, export and examples.
    Reading,
    /// Comparing the export's weights with the folder's.
    Comparing,
    /// Loading the graph into the engine, and the semantic basis.
    Loading,
    /// Running examples.
    Running,
    /// Measuring how far matrices stand out against noise.
    Spectrum,
}

/// Is told how far planning has come, on the thread that asked for a plan.
pub trait Progress {
    /// A stage begins, with `total` examples or matrices ahead, or 0 where they are not counted.
    fn begin(&self, stage: Stage, total: u64);

    /// `done` more are done.
    fn advance(&self, done: u64);
}

/// Ignores progress.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: Stage, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// Runs `work` in a rayon pool of so many threads (`None` for one a core), and hands its progress on to the caller's.
pub(crate) fn on_threads<T: Send>(
    threads: Option<usize>,
    progress: &dyn Progress,
    work: impl FnOnce(&dyn Progress) -> Result<T> + Send,
) -> Result<T> {
    let no_threads = |reason: String| {
        let reason = format!("no threads to plan on: {reason}");
        Error::Setting { setting: "threads", reason }
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).stack_size(STACK).build();
    let pool = pool.map_err(|error| no_threads(error.to_string()))?;
    let (sender, events) = channel();
    let mut result = None;
    pool.in_place_scope(|scope| {
        scope.spawn(|_| result = Some(work(&Relay(sender))));
        // Ends when the relay is dropped, with the work done or not.
        for event in events {
            match event {
                Event::Begin(stage, total) => progress.begin(stage, total),
                Event::Advance(done) => progress.advance(done),
            }
        }
    });
    result.unwrap_or_else(|| Err(no_threads("they have ended".into())))
}

/// What a relay hands on.
enum Event {
    Begin(Stage, u64),
    Advance(u64),
}

/// Hands progress on from the pool's threads to the one that called.
struct Relay(Sender<Event>);

impl Progress for Relay {
    fn begin(&self, stage: Stage, total: u64) {
        // Fails once nobody listens any more, which does not matter.
        let _ = self.0.send(Event::Begin(stage, total));
    }

    fn advance(&self, done: u64) {
        let _ = self.0.send(Event::Advance(done));
    }
}
