//! Progress bars on stderr, where somebody watches.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// A bar with an estimate of the time left.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar of unknown length that does nothing yet; nothing is drawn where nobody watches.
    pub fn new(output: &Output, what: &'static str) -> Bar {
        let target = if output.watched() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target).with_message(what);
        let style = ProgressStyle::with_template("{msg:>12} {wide_bar} {pos}/{len} {prefix} {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(500));
        Bar(bar)
    }

    /// `done` of `all`, with a word on how it goes.
    pub fn set(&self, done: u64, all: u64, note: String) {
        self.0.set_length(all);
        self.0.set_prefix(note);
        self.0.set_position(done);
    }

    /// What is being done now.
    pub fn say(&self, what: &'static str) {
        self.0.set_message(what);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
