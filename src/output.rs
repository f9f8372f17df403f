//! Results on stdout, as text for people or as JSON for machines.

use std::io::{self, Write};

use serde::Serialize;

/// How a command answers.
pub struct Output {
    json: bool,
    /// Whether progress and all logs but warnings are unwanted.
    pub quiet: bool,
}

impl Output {
    pub fn new(json: bool, quiet: bool) -> Output {
        Output { json, quiet }
    }

    /// Whether anybody watches stderr and wants to see progress.
    #[cfg(any(feature = "plan", feature = "train"))]
    pub fn watched(&self) -> bool {
        use io::IsTerminal;
        !self.quiet && io::stderr().is_terminal()
    }

    /// Writes a result: `value` for machines, `text` for people.
    pub fn result(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string_pretty(value)? + "\n" } else { text() };
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        Ok(())
    }
}

/// Whether the reader of stdout has gone, as `head` does: nobody is left to tell.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
