//! What a command writes: results on stdout, logs and progress on stderr.
//!
//! One [`Output`] owns the terminal. Bars are drawn by its [`MultiProgress`] alone, and whatever else is written takes
//! them away for that moment.

use std::io::{self, IsTerminal, Write};

use anyhow::{anyhow, bail};
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Begin and end of what stands out in a text. Unicode promises never to give them another meaning.
pub(crate) const MARKS: [char; 2] = ['\u{fdd0}', '\u{fdd1}'];

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
        let default = if self.quiet {
            "warn"
        } else {
            "warn,frostline=info,frostline_schemas=info,frostline_planner=info,frostline_runtime=info"
        };
        let filter = match std::env::var_os("FROSTLINE_LOG") {
            Some(wanted) => filter(&wanted.to_string_lossy())?,
            None => EnvFilter::new(default),
        };
        let bars = self.bars.clone();
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || LogLine(bars.clone()))
            .with_ansi(has_colours(io::stderr().is_terminal()))
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
        let text = if self.json { serde_json::to_string_pretty(value)? + "\n" } else { marked(&printable(&text())) };
        self.bars.suspend(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes())?;
            stdout.flush()
        })?;
        Ok(())
    }
}

/// Text with what stands between [`MARKS`] in bold green or, where there is no colour, in brackets.
fn marked(text: &str) -> String {
    let shown = if has_colours(io::stdout().is_terminal()) { ["\x1b[1;32m", "\x1b[0m"] } else { ["[", "]"] };
    text.replace(MARKS[0], shown[0]).replace(MARKS[1], shown[1])
}

/// What is logged, as `FROSTLINE_LOG` says it.
fn filter(wanted: &str) -> anyhow::Result<EnvFilter> {
    // A word alone would be taken for the name of a crate, and a level that is misspelt would silence all others.
    let is_plain = |word: &&str| !word.contains('=') && word.parse::<LevelFilter>().is_err();
    if let Some(word) = wanted.split(',').filter(|word| !word.is_empty()).find(is_plain) {
        bail!(
            "FROSTLINE_LOG={wanted}: `{word}` is no level; there are off, error, warn, info, debug and trace, for all or \
             for one part, as in frostline_planner=debug"
        );
    }
    EnvFilter::try_new(wanted).map_err(|error| anyhow!("FROSTLINE_LOG={wanted}: {error}"))
}

/// A text without what a terminal would obey: names come from files.
pub(crate) fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

/// Whether what is written may be coloured: on a terminal that can, where nobody has said no (<https://no-color.org>).
fn has_colours(is_terminal: bool) -> bool {
    let says = |name: &str| std::env::var_os(name).unwrap_or_default();
    is_terminal && says("NO_COLOR").is_empty() && says("TERM") != "dumb"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_is_a_level_for_all_or_for_a_part() {
        for good in ["", "debug", "OFF", "warn,frostline=info", "info,frostline_planner=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["bogus", "warn,frostline_planner", "frostline=loud"] {
            let said = filter(bad).unwrap_err().to_string();
            assert!(said.starts_with(&format!("FROSTLINE_LOG={bad}: ")), "{said}");
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_replaced() {
        assert_eq!(printable("a\u{1b}[2Jb\r\u{9b}\n"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\n");
    }
}
