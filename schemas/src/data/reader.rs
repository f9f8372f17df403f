//! Reads a file of rows, tokenises each and counts what was left out. Planner and runtime both read here, and so agree.

use std::path::Path;

use rayon::prelude::*;

use super::end::{EndBy, EndOfTexts};
use super::tokenise::{TokenisedRow, Tokeniser};
use crate::data::{
    BadRows, Encoder, ExampleError, Examples, NoTarget, RawRow, RowError, RowFile, RowSettings, RowsAsRead,
    SkippedRows, Unit,
};
use crate::digest::Digest;
use crate::model::DecoderConfig;

/// How many rows that could not be read are named.
const NAMED_ROWS: usize = 100;

/// Reads a file's rows for a model, with never more tokens than the model has positions. Says in the log what was cut,
/// left out or added, and where the first such row stands.
///
/// # Errors
/// [`ExampleError`]: the first bad row is one, unless bad rows are to be skipped.
pub fn read_examples(
    config: &DecoderConfig,
    encoder: &Encoder,
    path: &Path,
    settings: &RowSettings,
) -> Result<Examples, ExampleError> {
    let max_length = settings.max_length().min(config.max_positions);
    let mut settings = settings.clone();
    settings.template.date.get_or_insert_with(|| jiff::ZonedDateTime::now().date());
    let tokeniser = Tokeniser::new(encoder, config.vocabulary, max_length, &settings);
    let (examples, end) = read(path, &tokeniser)?;
    super::log::say(&examples, path, settings.max_length() > config.max_positions, end);
    Ok(examples)
}

/// The examples, and what decided how their texts end; none where there are no texts.
fn read(path: &Path, tokeniser: &Tokeniser) -> Result<(Examples, Option<EndBy>), ExampleError> {
    let mut file = RowFile::open(path)?;
    let unit = file.unit();
    let mut reader = Reader::new(tokeniser.max_length, unit);
    loop {
        let chunk = file.chunk()?;
        if chunk.is_empty() {
            break;
        }
        let rows: Vec<(u64, Result<TokenisedRow, RowError>)> =
            chunk.into_par_iter().map(|row| (row.place, tokenise(row, tokeniser))).collect();
        for (place, row) in rows {
            match row {
                Ok(row) => reader.add(row),
                Err(reason) if tokeniser.settings.bad_rows == BadRows::Skip && reason.is_of_row() => {
                    reader.skip(place, &reason)
                }
                Err(reason) => return Err(ExampleError::Row { path: path.into(), unit, place, reason }),
            }
        }
    }
    for (column, kind) in file.left_out() {
        tracing::info!("{}: column `{column}` is left out: JSON has no value for its type, {kind}", path.display());
    }
    reader.finish(path, file.digest()?, tokeniser)
}

fn tokenise(row: RawRow, tokeniser: &Tokeniser) -> Result<TokenisedRow, RowError> {
    let line = row.place;
    tokeniser.row(row.object()?, line)
}

/// Examples as they are read.
struct Reader {
    out: Examples,
    ends: EndOfTexts,
}

impl Reader {
    fn new(max_length: usize, unit: Unit) -> Reader {
        let out = Examples {
            examples: Vec::new(),
            rows: 0,
            without_targets: Vec::new(),
            truncated: Vec::new(),
            skipped: SkippedRows::default(),
            straddling: 0,
            last_answer_only: 0,
            ended: 0,
            max_length,
            unit,
            digest: Digest::of(b""),
            read: RowsAsRead::default(),
        };
        Reader { out, ends: EndOfTexts::default() }
    }

    fn add(&mut self, row: TokenisedRow) {
        let out = &mut self.out;
        out.rows += 1;
        out.straddling += u64::from(row.straddles);
        out.last_answer_only += u64::from(row.last_answer_only);
        if let Some(end) = row.text {
            self.ends.add(out.examples.len(), end);
        }
        match row.no_target {
            None => out.examples.push(row.example),
            Some(why) => out.without_targets.push((row.example.line, why)),
        }
    }

    fn skip(&mut self, place: u64, reason: &RowError) {
        self.out.rows += 1;
        self.out.skipped.rows += 1;
        if self.out.skipped.first.len() < NAMED_ROWS {
            self.out.skipped.first.push((place, reason.to_string()));
        }
    }

    fn finish(
        mut self,
        path: &Path,
        digest: Digest,
        tokeniser: &Tokeniser,
    ) -> Result<(Examples, Option<EndBy>), ExampleError> {
        let settings = tokeniser.settings;
        self.out.digest = digest;
        if self.out.rows == 0 {
            return Err(ExampleError::Empty { path: path.into() });
        }
        let end = self.ends.apply(&mut self.out, tokeniser)?;
        self.out.read = RowsAsRead {
            eos: end.map(|(follows, _)| follows),
            form: settings.form,
            chat_template: settings.template.name.clone(),
            date: settings.template.date.filter(|_| tokeniser.told_a_date()).map(|date| date.to_string()),
            template_variables: settings.template.variables.clone(),
        };
        leave_out_without_targets(&mut self.out, &self.ends);
        if self.out.examples.is_empty() {
            return Err(self.out.no_targets(path));
        }
        Ok((self.out, end.map(|(_, by)| by)))
    }
}

/// Takes the examples out that have no target, and notes which were cut.
fn leave_out_without_targets(out: &mut Examples, ends: &EndOfTexts) {
    let mut index = 0;
    let (truncated, without) = (&mut out.truncated, &mut out.without_targets);
    out.examples.retain(|example| {
        let empty = ends.is_empty(index);
        index += 1;
        if example.cut {
            truncated.push(example.line);
        }
        let has_targets = !example.targets.is_empty();
        if !has_targets {
            // Of an empty completion, only the end that was to follow it can be cut off.
            let is_empty = empty && !example.targets_cut;
            without.push((example.line, if is_empty { NoTarget::Empty } else { NoTarget::of(example) }));
        }
        has_targets
    });
    without.sort_unstable();
}
