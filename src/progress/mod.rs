//! How far a command has come: bars on a terminal, a line now and then anywhere else.

#[cfg(all(feature = "plan", feature = "train"))]
mod comparison;
#[cfg(feature = "plan")]
mod planning;
#[cfg(all(feature = "plan", feature = "train"))]
mod probing;
#[cfg(feature = "train")]
mod training;

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::output::Output;
use crate::render::units::duration;

#[cfg(all(feature = "plan", feature = "train"))]
pub(crate) use comparison::ComparisonProgress;
#[cfg(feature = "plan")]
pub(crate) use planning::PlanningProgress;
#[cfg(all(feature = "plan", feature = "train"))]
pub(crate) use probing::ProbeProgress;
#[cfg(feature = "train")]
pub(crate) use training::TrainingProgress;

/// Work that takes less is not worth a line.
const FIRST_LINE: Duration = Duration::from_secs(2);
/// The time between two lines.
const NEXT_LINE: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(100);

/// What goes on, and how much of it is done.
pub(crate) struct Bar {
    work: Arc<Mutex<Work>>,
    shown: Shown,
}

/// Where a [`Bar`] is seen.
enum Shown {
    /// A spinner until a total is known, and a bar with an estimate of the time left from then on.
    Drawn(ProgressBar),
    /// Lines in the log, by a thread that ends with this sender.
    Logged { _until: Sender<()> },
}

impl Bar {
    /// A bar for work that begins now.
    pub(crate) fn new(output: &Output, what: &'static str) -> Bar {
        let work = Arc::new(Mutex::new(Work::new(what, 0, LogLines::Timed)));
        let shown = match output.bars() {
            Some(bars) => Shown::Drawn(draw(bars)),
            None => Shown::Logged { _until: log_from_time_to_time(work.clone()) },
        };
        let bar = Bar { work, shown };
        bar.begin(what, 0);
        bar
    }

    /// Begins work of which `all` parts lie ahead, or 0 where nobody knows.
    pub(crate) fn begin(&self, what: &'static str, all: u64) {
        self.begin_with(Work::new(what, all, LogLines::Timed));
    }

    /// Begins work whose lines somebody else logs.
    #[cfg(feature = "train")]
    fn begin_unlogged(&self, what: &'static str, all: u64) {
        self.begin_with(Work::new(what, all, LogLines::None));
    }

    fn begin_with(&self, work: Work) {
        if let Shown::Drawn(bar) = &self.shown {
            bar.set_style(style(work.all));
            bar.set_message(work.what);
            bar.set_prefix("");
            bar.set_length(work.all);
            bar.reset();
        }
        *lock(&self.work) = work;
    }

    /// So much is done; `note` is a word on what, or on how it goes.
    pub(crate) fn set(&self, done: u64, note: impl Into<String>) {
        let mut work = lock(&self.work);
        work.done = done;
        work.note = note.into();
        if let Shown::Drawn(bar) = &self.shown {
            bar.set_prefix(work.note.clone());
            bar.set_position(done);
        }
    }

    /// So much is done of work that begins with its first part.
    #[cfg(feature = "train")]
    pub(crate) fn go_on(&self, what: &'static str, done: u64, all: u64, note: &'static str) {
        let is_new = {
            let work = lock(&self.work);
            work.what != what || work.all != all
        };
        if is_new {
            self.begin(what, all);
        }
        self.set(done, note);
    }

    /// Whether somebody sees it move.
    #[cfg(feature = "train")]
    fn is_drawn(&self) -> bool {
        matches!(self.shown, Shown::Drawn(_))
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Shown::Drawn(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// Work that goes on.
struct Work {
    what: &'static str,
    done: u64,
    all: u64,
    note: String,
    lines: LogLines,
    begun: Instant,
    last_line: Option<Instant>,
}

/// Who logs how it goes where there is no bar.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LogLines {
    Timed,
    #[cfg(feature = "train")]
    None,
}

impl Work {
    fn new(what: &'static str, all: u64, lines: LogLines) -> Work {
        Work { what, done: 0, all, note: String::new(), lines, begun: Instant::now(), last_line: None }
    }

    /// A line on how it goes, if it is time for one.
    fn line(&mut self, now: Instant) -> Option<String> {
        let (since, pause) = self.last_line.map_or((self.begun, FIRST_LINE), |last| (last, NEXT_LINE));
        if self.lines != LogLines::Timed || now.duration_since(since) < pause {
            return None;
        }
        self.last_line = Some(now);
        Some(self.text(now.duration_since(self.begun)))
    }

    fn text(&self, elapsed: Duration) -> String {
        let Work { what, done, all, note, .. } = self;
        match time_left(elapsed, *done, *all) {
            Some(left) => format!("{what}: {done} of {all} {note}, {} left", duration(left)),
            None => format!("{what} …"),
        }
    }
}

/// What is left of the time if it goes on as it went; `None` where nothing is known yet.
fn time_left(elapsed: Duration, done: u64, all: u64) -> Option<Duration> {
    let left = all.checked_sub(done)?;
    (done > 0).then(|| elapsed.mul_f64(left as f64 / done as f64))
}

/// A thread that logs how work goes on when it takes long; it ends when the sender is dropped.
fn log_from_time_to_time(work: Arc<Mutex<Work>>) -> Sender<()> {
    let (until, ended) = channel();
    std::thread::spawn(move || {
        while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            let line = lock(&work).line(Instant::now());
            if let Some(line) = line {
                tracing::info!("{line}");
            }
        }
    });
    until
}

/// A lock is poisoned by a thread that has ended badly; the numbers behind this one are still good to show.
fn lock(work: &Mutex<Work>) -> MutexGuard<'_, Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

fn draw(bars: &MultiProgress) -> ProgressBar {
    let bar = bars.add(ProgressBar::new(0));
    bar.enable_steady_tick(TICK);
    bar
}

fn style(all: u64) -> ProgressStyle {
    let style = match all {
        0 => ProgressStyle::with_template("{spinner} {msg} …"),
        _ => ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {prefix} {left:>11}"),
    };
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key(
        "left",
        |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Before the first part is done nothing is known of the others.
            if state.pos() > 0 {
                let _ = write!(out, "{} left", duration(state.eta()));
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_after_two_seconds_and_each_half_minute() {
        let mut work = Work::new("running", 200, LogLines::Timed);
        let after = |seconds| work.begun + Duration::from_secs(seconds);
        let times = [1, 2, 3, 31, 32, 33, 62].map(after);
        (work.done, work.note) = (50, "examples".into());
        let said: Vec<Option<String>> = times.into_iter().map(|time| work.line(time)).collect();
        let line = |left: &str| Some(format!("running: 50 of 200 examples, {left} left"));
        assert_eq!(said, [None, line("6 s"), None, None, line("1 min 36 s"), None, line("3 min 6 s")]);
    }

    #[test]
    fn work_of_unknown_length_has_no_end() {
        assert_eq!(Work::new("reading", 0, LogLines::Timed).text(FIRST_LINE), "reading …");
        assert_eq!(Work::new("running", 9, LogLines::Timed).text(FIRST_LINE), "running …");
        assert_eq!(time_left(FIRST_LINE, 3, 2), None);
    }
}
