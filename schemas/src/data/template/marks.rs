//! The answers between the marks that `{% generation %}` writes.

use std::ops::Range;

use minijinja::Value;

use super::answers::assistants;
use super::rendered::Answer;

/// How many bytes of marked text may be compared with messages, those compared again counted again.
const MAX_COMPARED: usize = 1 << 28;

/// Takes the marks out of a text: the text without them, and what stood between; none where they are not in order.
pub(super) fn unmarked(text: &str, [open, close]: [char; 2]) -> Option<(String, Vec<Range<usize>>)> {
    let mut out = String::with_capacity(text.len());
    let mut ranges = Vec::new();
    let mut starts: Vec<usize> = Vec::new();
    for c in text.chars() {
        if c == open {
            starts.push(out.len());
        } else if c == close {
            let start = starts.pop()?;
            // A mark within another is part of it. One around nothing is no answer, though transformers counts a token
            // that begins before it and ends after it.
            if starts.is_empty() && start < out.len() {
                ranges.push(start..out.len());
            }
        } else {
            out.push(c);
        }
    }
    starts.is_empty().then_some((out, ranges))
}

/// Which message each marked range is the text of, where that can be told.
pub(super) fn matched(ranges: Vec<Range<usize>>, text: &str, messages: &[Value]) -> Vec<Answer> {
    let assistant = assistants(messages);
    let one_each = assistant.len() == ranges.len();
    let mut rest = assistant.iter().copied();
    let mut left = MAX_COMPARED;
    let answer = |range: Range<usize>| {
        let said = text.get(range.clone()).unwrap_or_default();
        let message = if one_each {
            rest.next()
        } else {
            // A short text may stand in several: then it cannot be told which it is.
            let mut holding = assistant.iter().copied().filter(|i| {
                left = left.saturating_sub(said.len());
                left > 0 && messages.get(*i).is_some_and(|message| says(message, said))
            });
            let first = holding.next();
            let alone = holding.next().is_none();
            if alone && left > 0 { first } else { None }
        };
        Answer { range, message }
    };
    ranges.into_iter().map(answer).collect()
}

/// Whether a marked text holds what a message says.
fn says(message: &Value, said: &str) -> bool {
    let content = message.get_attr("content").ok();
    let content = content.as_ref().and_then(Value::as_str).map(str::trim).filter(|content| !content.is_empty());
    content.is_some_and(|content| said.contains(content))
}
