//! Text that operations make, no longer than texts may be.

use std::fmt;

use minijinja::Error;

use crate::data::template::fault::failed;

/// The longest text that one operation makes, in bytes.
pub(crate) const MAX_TEXT: usize = 1 << 26;

/// Text that grows no longer than texts may be.
#[derive(Default)]
pub(crate) struct Text(String);

impl Text {
    pub(crate) fn new() -> Text {
        Text::default()
    }

    /// Adds text, unless that makes it too long.
    pub(crate) fn push(&mut self, text: &str) -> Result<(), Error> {
        if text.len() > MAX_TEXT.saturating_sub(self.0.len()) {
            return Err(failed(format!("a text longer than {MAX_TEXT} bytes")));
        }
        self.0.push_str(text);
        Ok(())
    }

    /// Its bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text).map_err(|_| fmt::Error)
    }
}
