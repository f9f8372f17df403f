//! What the model will see of a file's rows.

use std::fmt::Write;
use std::path::Path;

use frostline_schemas::data::{Encoder, Example, Examples, IGNORED, Lengths};
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::units::plural;
use crate::output::MARKS;

/// Columns of the histogram's longest bar.
const BAR: u64 = 40;

/// Rows that were read, and how many of them are shown.
pub(crate) struct SeenRows<'a> {
    pub path: &'a Path,
    pub examples: &'a Examples,
    pub encoder: &'a Encoder,
    pub shown: usize,
    pub seconds: f64,
}

impl SeenRows<'_> {
    fn shown(&self) -> impl Iterator<Item = &Example> {
        self.examples.examples.iter().take(self.shown)
    }

    /// Examples that begin with the beginning-of-sequence token.
    fn begun(&self) -> usize {
        let bos = self.encoder.special_tokens().ok().and_then(|special| special.bos());
        self.examples.examples.iter().filter(|example| bos.is_some() && example.tokens.first().copied() == bos).count()
    }
}

/// Made only where it is asked for: it may hold all rows.
impl Serialize for SeenRows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        to_json(self).serialize(serializer)
    }
}

fn to_json(seen: &SeenRows) -> Json {
    let read = seen.examples;
    let lengths = Lengths::of(&read.examples);
    let left_out = read.causes().into_iter();
    json!({
        "data": seen.path,
        "digest": read.digest,
        "unit": read.unit.to_string(),
        "rows": read.rows,
        "examples": read.examples.len(),
        "tokens": lengths.tokens,
        "targets": lengths.targets,
        "max_length": read.max_length,
        "lengths": {
            "shortest": lengths.shortest,
            "median": lengths.median,
            "longest": lengths.longest,
            "histogram": lengths.histogram.iter().map(|(bound, rows)| json!({"up_to": bound, "rows": rows})).collect::<Vec<_>>(),
        },
        "truncated": read.truncated,
        "left_out": left_out.map(|(why, rows, first)| {
            json!({"reason": why.says(read.max_length), "rows": rows, "first": first})
        }).collect::<Vec<_>>(),
        "skipped": read.skipped.rows,
        "skipped_first": read.skipped.first.iter().map(|(place, reason)| {
            json!({"place": place, "reason": reason})
        }).collect::<Vec<_>>(),
        "straddling": read.straddling,
        "last_answer_only": read.last_answer_only,
        "begin_with_bos": seen.begun(),
        "eos_added": read.ended,
        "read_as": read.read,
        "seconds": seen.seconds,
        "shown": seen.shown().map(|example| json!({
            "place": example.line,
            "input_ids": example.tokens,
            "labels": labels(example),
        })).collect::<Vec<_>>(),
    })
}

/// Labels as Hugging Face has them: each token where it is itself a target.
fn labels(example: &Example) -> Vec<i64> {
    let mut labels = vec![IGNORED; example.tokens.len()];
    for target in &example.targets {
        if let Some(label) = labels.get_mut(target.position as usize + 1) {
            *label = target.token.into();
        }
    }
    labels
}

pub(crate) fn to_text(seen: &SeenRows) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_summary(&mut out, seen).and_then(|()| write_rows(&mut out, seen));
    out
}

fn write_summary(out: &mut String, seen: &SeenRows) -> std::fmt::Result {
    let read = seen.examples;
    let lengths = Lengths::of(&read.examples);
    let (unit, examples) = (read.unit, read.examples.len() as u64);
    writeln!(
        out,
        "{}: {}, {} with {}, {} of them targets",
        seen.path.display(),
        plural(read.rows, "row"),
        plural(examples, "example"),
        plural(lengths.tokens, "token"),
        lengths.targets,
    )?;
    let Lengths { shortest, median, longest, .. } = lengths;
    writeln!(out, "lengths    {shortest} to {longest} tokens, median {median}")?;
    let most = lengths.histogram.iter().map(|(_, rows)| *rows).max().unwrap_or(1).max(1);
    for (bound, rows) in &lengths.histogram {
        let bar = "█".repeat((rows * BAR).div_ceil(most) as usize);
        writeln!(out, "{:>9}  {bar} {rows}", format!("≤ {bound}"))?;
    }
    writeln!(out, "begin      {} with the beginning-of-sequence token", plural(seen.begun() as u64, "example"))?;
    match read.read.eos {
        Some(true) => {
            writeln!(out, "end        the end-of-sequence token was put behind {}", plural(read.ended, "completion"))?
        }
        Some(false) => writeln!(out, "end        no end-of-sequence token was put behind completions")?,
        None => {}
    }
    if let Some(date) = &read.read.date {
        writeln!(out, "date       the chat template was told that today is {date}")?;
    }
    if read.straddling > 0 {
        let rows = plural(read.straddling, "row");
        writeln!(out, "straddle   in {rows} a token holds the end of the prompt and the beginning of the completion")?;
    }
    if read.last_answer_only > 0 {
        writeln!(out, "answers    of {} the last answer alone is a target", plural(read.last_answer_only, "row"))?;
    }
    if let Some(first) = read.truncated.first() {
        let rows = plural(read.truncated.len() as u64, "row");
        let length = plural(read.max_length as u64, "token");
        writeln!(out, "cut off    {rows} after {length} (first: {unit} {first})")?;
    }
    for (why, rows, first) in read.causes() {
        let (rows, why) = (plural(rows, "row"), why.says(read.max_length));
        writeln!(out, "left out   {rows} (first: {unit} {first}): {why}")?;
    }
    if let Some((first, reason)) = read.skipped.first.first() {
        writeln!(out, "skipped    {} (first: {unit} {first}): {reason}", plural(read.skipped.rows, "row"))?;
    }
    Ok(())
}

fn write_rows(out: &mut String, seen: &SeenRows) -> std::fmt::Result {
    let [begin, end] = MARKS;
    for example in seen.shown() {
        let (tokens, targets) = (plural(example.tokens.len() as u64, "token"), example.targets.len() as u64);
        writeln!(out, "\n{} {}: {tokens}, {}", seen.examples.unit, example.line, plural(targets, "target"))?;
        let labels = labels(example);
        // Rows of tokens need no tokenizer; without one, their ids are all there is to show.
        let ids = || example.tokens.iter().map(|token| format!("<token {token}>")).collect();
        let pieces = seen.encoder.pieces(&example.tokens).unwrap_or_else(|_| ids());
        for (piece, label) in pieces.iter().zip(labels) {
            let piece = visible(piece);
            if label == IGNORED { out.push_str(&piece) } else { write!(out, "{begin}{piece}{end}")? }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Text with its control characters written out, so that none of them reaches the terminal; a line's end also ends it.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n\n"),
            c if c.is_control() || MARKS.contains(&c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}
