//! What a command writes: results on stdout, logs and progress on stderr.
//!
//! One [`Output`] owns the terminal. Bars are drawn by its [`MultiProgress`] alone, and whatever else is written takes
//! them away for that moment.

use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

/// How a command answers.
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    bars: MultiProgress,
}

impl Output {
    /// Answers as JSON or as text; draws bars where stderr is a terminal and they are wanted.
    pub(crate) fn new(json: bool, quiet: bool) -> Output {
        let is_watched = !quiet && io::stderr().is_terminal();
        let target = if is_watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Output { json, quiet, bars: MultiProgress::with_draw_target(target) }
    }

    /// Sends logs to stderr; `FROSTLINE_LOG` sets what is logged (`debug`, `frostline_planner=trace` and so on).
    ///
    /// # Errors
    /// Where `FROSTLINE_LOG` says nothing that can be understood.
    pub(crate) fn start_log(&self) -> anyhow::Result<()> {
        let default =
            if self.quiet { "warn" } else { "warn,frostline=info,frostline_planner=info,frostline_runtime=info" };
        let wanted = std::env::var("FROSTLINE_LOG").unwrap_or_else(|_| default.into());
        let filter = EnvFilter::try_new(&wanted).map_err(|error| anyhow::anyhow!("FROSTLINE_LOG={wanted}: {error}"))?;
        let bars = self.bars.clone();
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || LogLine(bars.clone()))
            .with_ansi(has_colours())
            .without_time()
            .with_target(false)
            .init();
        Ok(())
    }

    /// What draws the bars; nothing does where nobody watches.
    #[cfg(any(feature = "plan", feature = "train"))]
    pub(crate) fn bars(&self) -> Option<&MultiProgress> {
        (!self.bars.is_hidden()).then_some(&self.bars)
    }

    /// Writes a result: `value` for machines, `text` for people.
    pub(crate) fn result(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string_pretty(value)? + "\n" } else { text() };
        self.bars.suspend(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes())?;
            stdout.flush()
        })?;
        Ok(())
    }
}

/// Whether logs may be coloured: on a terminal that can, where nobody has said no (<https://no-color.org>).
fn has_colours() -> bool {
    let says = |name: &str| std::env::var_os(name).unwrap_or_default();
    io::stderr().is_terminal() && says("NO_COLOR").is_empty() && says("TERM") != "dumb"
}

/// Writes a line of the log past the bars.
struct LogLine(MultiProgress);

impl Write for LogLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Whether the reader of stdout has gone, as `head` does: nobody is left to tell.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
