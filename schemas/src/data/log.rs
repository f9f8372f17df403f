//! What is said of a file's rows when they have been read.

use std::fmt::Display;
use std::path::Path;

use super::end::EndBy;
use crate::data::Examples;
use crate::units::plural;

/// Says what was cut, left out or added. `by_model` is whether the model itself sets the maximum length, `end` what decided
/// whether the end-of-sequence token follows texts.
pub(super) fn say(read: &Examples, path: &Path, by_model: bool, end: Option<EndBy>) {
    let (path, unit) = (path.display(), read.unit);
    for (why, left_out, line) in read.causes() {
        tracing::warn!("{path}: {} left out (first: {unit} {line}): {}", rows(left_out), why.says(read.max_length));
    }
    if let Some((line, reason)) = read.skipped.first.first() {
        tracing::warn!("{path}: {} skipped (first: {unit} {line}): {reason}", rows(read.skipped.rows));
    }
    if let Some(line) = read.truncated.first() {
        let limit = if by_model { ", all that the model has positions for" } else { "" };
        let (cut, length) = (rows(read.truncated.len() as u64), plural(read.max_length as u64, "token"));
        tracing::warn!("{path}: {cut} cut off after {length}{limit} (first: {unit} {line})");
    }
    if read.straddling > 0 {
        tracing::info!(
            "{path}: in {} a token holds the end of the prompt and the beginning of the completion; it is a target",
            rows(read.straddling)
        );
    }
    if read.last_answer_only > 0 {
        tracing::warn!(
            "{path}: of {} the last answer alone is a target: the chat template does not let earlier ones be told from the rest",
            rows(read.last_answer_only)
        );
    }
    say_end(read, &path, end);
    if let Some(date) = &read.read.date {
        tracing::info!("{path}: the chat template was told that today is {date}");
    }
}

/// Says whether the end-of-sequence token follows completions, where no setting says it.
fn say_end(read: &Examples, path: impl Display, end: Option<EndBy>) {
    let completions = plural(read.ended, "completion");
    match (end, read.read.eos) {
        (None | Some(EndBy::Settings), _) => {}
        (Some(EndBy::Answers), _) => {
            tracing::info!("{path}: the end-of-sequence token follows {completions}, which are answers, not labels");
        }
        (Some(EndBy::Labels), _) => {
            tracing::info!("{path}: no end-of-sequence token follows completions, which are labels");
        }
        (Some(EndBy::Tokenizer), Some(true)) => {
            tracing::info!("{path}: the end-of-sequence token follows {completions}, taken for answers: all are alike");
        }
        (Some(EndBy::Tokenizer), _) => tracing::info!(
            "{path}: no end-of-sequence token follows completions: all are alike, and the tokenizer itself says what stands \
             around texts"
        ),
        (Some(EndBy::NoToken), _) => {
            tracing::warn!("{path}: no end-of-sequence token follows completions: the model's files name none");
        }
    }
}

fn rows(number: u64) -> String {
    plural(number, "row")
}
