//! How far planning has come, and the threads that it runs on.

use std::sync::mpsc::{Sender, channel};

use crate::error::{Error, Result};

/// Stack of a thread, in bytes: as large as a main thread's, since optimisers of graphs recurse.
const STACK: usize = 8 << 20;

/// A step of planning that takes a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
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

/// Hears how far planning has come, on the thread that asked for a plan.
pub trait Progress {
    /// A step begins; `total` examples, or matrices, lie ahead where they are counted, else 0.
    fn begin(&self, step: Step, total: u64);

    /// So many more are done.
    fn advance(&self, done: u64);
}

/// Nobody listens.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: Step, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// Runs `work` in a rayon pool of so many threads (`None` for one a core), and hands its progress on to the caller's.
pub fn on_threads<T: Send>(
    threads: Option<usize>,
    progress: &dyn Progress,
    work: impl FnOnce(&dyn Progress) -> Result<T> + Send,
) -> Result<T> {
    let no_threads = |reason: String| Error::Setting(format!("no threads to plan on: {reason}"));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).stack_size(STACK).build();
    let pool = pool.map_err(|error| no_threads(error.to_string()))?;
    let (sender, heard) = channel();
    let mut result = None;
    pool.in_place_scope(|scope| {
        scope.spawn(|_| result = Some(work(&Relay(sender))));
        // Ends when the relay is dropped, with the work done or not.
        for event in heard {
            match event {
                Event::Begin(step, total) => progress.begin(step, total),
                Event::Advance(done) => progress.advance(done),
            }
        }
    });
    result.unwrap_or_else(|| Err(no_threads("they have ended".into())))
}

/// What a relay hands on.
enum Event {
    Begin(Step, u64),
    Advance(u64),
}

/// Hands progress on from the pool's threads to the one that called.
struct Relay(Sender<Event>);

impl Progress for Relay {
    fn begin(&self, step: Step, total: u64) {
        // Fails where nobody listens any more, and then nobody minds.
        let _ = self.0.send(Event::Begin(step, total));
    }

    fn advance(&self, done: u64) {
        let _ = self.0.send(Event::Advance(done));
    }
}
