//! Training examples: JSONL rows to tokens and targets. Planner and runtime read them here, and so agree.
//!
//! A row is one of
//! - `{"prompt", "completion"}`: the prompt with special tokens, the completion without; its tokens are the targets;
//! - `{"messages": [{"role", "content"}, …]}`, with `tools` if need be: the model's own chat template; the assistant's
//!   turns are the targets;
//! - `{"text"}`: all of it is a target;
//! - `{"input_ids", "labels"}`: tokens already; −100 where there is no target. Needs no tokenizer.
//!
//! Other keys are left alone, as data sets have columns of their own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde_json::{Map, Value as Json};

use crate::data::{Encoder, TokenError};
use crate::digest::{Digest, Hasher};

/// What stands in `labels` where there is no target, as everywhere in PyTorch.
pub const IGNORED: i64 = -100;
/// The longest row read, in bytes.
const MAX_ROW: u64 = 1 << 26;
/// What is read before it is tokenised, in parallel.
const LIMITS: Limits = Limits { row: MAX_ROW, rows: 1 << 12, bytes: 1 << 26 };

/// One example: a sequence of tokens and what is to be predicted in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The row's line in its file, from 1.
    pub line: u64,
    pub tokens: Vec<u32>,
    /// In the order of their positions; never empty.
    pub targets: Vec<Target>,
    /// Whether tokens were cut off to keep to the maximum length.
    pub cut: bool,
    /// Whether targets were among what was cut off.
    targets_cut: bool,
}

/// A token that training is asked to predict, and the place before it, where it is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub position: u32,
    pub token: u32,
}

/// The examples of a file.
#[derive(Clone, Debug)]
pub struct Examples {
    pub examples: Vec<Example>,
    /// Rows in the file, those without a target included.
    pub rows: u64,
    /// Lines of rows that hold no target within the maximum length.
    pub without_targets: Vec<u64>,
    /// Lines of rows of which something was cut off, those that were left without a target included.
    pub truncated: Vec<u64>,
    /// Tokens of an example at most, as it was read.
    pub max_length: usize,
    /// SHA-256 of the file.
    pub digest: Digest,
}

/// Examples that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExampleError {
    /// The file is missing or unreadable.
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// One row is bad.
    #[error("{}:{line}: {reason}", path.display())]
    Row { path: PathBuf, line: u64, reason: RowError },
    /// The file has no rows.
    #[error("{}: holds no rows; one JSON object a line is expected", path.display())]
    Empty { path: PathBuf },
    /// No row has anything to predict.
    #[error("{}: none of {rows} rows has a target within the first {max_length} tokens; raise --max-length", path.display())]
    NoTargets { path: PathBuf, rows: u64, max_length: usize },
}

/// What is wrong with a row.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// More bytes than a row may have.
    #[error("longer than {} MiB", MAX_ROW >> 20)]
    TooLong,
    /// No JSON, or JSON that is no object.
    #[error("not a JSON object: {0}")]
    NotJson(String),
    /// An object without the keys of any form.
    #[error(
        "no known form: a row has `prompt` and `completion`, `messages`, `text`, or `input_ids` and `labels`; this one has {0}"
    )]
    Form(String),
    /// The form has a key that the row lacks.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A value of the wrong type.
    #[error("`{field}` must be {expected}")]
    Type { field: &'static str, expected: &'static str },
    /// Not one label for each token.
    #[error("`labels` has {labels} entries, `input_ids` {tokens}")]
    Lengths { labels: usize, tokens: usize },
    /// An attention mask that is not the tokens and then padding.
    #[error("`attention_mask` hides places before the last token; only padding on the right is understood")]
    Mask,
    /// A token that the model does not have.
    #[error("token {token} is outside the model's vocabulary of {vocabulary}; is this the model's tokenizer?")]
    Vocabulary { token: i64, vocabulary: usize },
    /// A text that cannot be turned into tokens.
    #[error("{0}")]
    Token(#[from] TokenError),
}

/// How rows become examples.
pub struct Reading<'a> {
    /// The model's tokenizer and chat template.
    pub encoder: &'a Encoder,
    /// Tokens must lie below it.
    pub vocabulary: usize,
    /// Tokens of an example; what goes beyond is cut off.
    pub max_length: usize,
}

/// Reads all rows of a JSONL file. The first bad row is the error; nothing is skipped in silence.
pub fn read(path: &Path, reading: &Reading) -> Result<Examples, ExampleError> {
    let failed = |source| ExampleError::Read { path: path.into(), source };
    let row_failed = |line, reason| ExampleError::Row { path: path.into(), line, reason };
    let mut lines = Lines::new(File::open(path).map_err(failed)?, LIMITS);
    let mut out = Examples {
        examples: Vec::new(),
        rows: 0,
        without_targets: Vec::new(),
        truncated: Vec::new(),
        max_length: reading.max_length,
        digest: Digest::of(b""),
    };
    loop {
        let (chunk, too_long) = lines.chunk().map_err(failed)?;
        if chunk.is_empty() && too_long.is_none() {
            break;
        }
        out.rows += chunk.len() as u64;
        let examples: Vec<Result<Example, ExampleError>> = chunk
            .par_iter()
            .map(|(line, text)| parse_row(text, reading, *line).map_err(|reason| row_failed(*line, reason)))
            .collect();
        for example in examples {
            let example = example?;
            if example.cut {
                out.truncated.push(example.line);
            }
            if example.targets.is_empty() {
                out.without_targets.push(example.line);
            } else {
                out.examples.push(example);
            }
        }
        // Only now, so that the first bad row is the one reported.
        if let Some(line) = too_long {
            return Err(row_failed(line, RowError::TooLong));
        }
    }
    out.digest = lines.hasher.finish();
    match (out.rows, out.examples.len()) {
        (0, _) => Err(ExampleError::Empty { path: path.into() }),
        (rows, 0) => Err(ExampleError::NoTargets { path: path.into(), rows, max_length: reading.max_length }),
        _ => Ok(out),
    }
}

/// How much is held of a file at a time.
#[derive(Clone, Copy)]
struct Limits {
    /// Bytes of a row.
    row: u64,
    /// Rows of a chunk.
    rows: usize,
    /// Bytes of a chunk, but for its last row.
    bytes: usize,
}

/// A file's lines that are not blank, with their numbers, hashed as they are read.
struct Lines<R> {
    reader: BufReader<R>,
    hasher: Hasher,
    line: u64,
    limits: Limits,
}

/// Rows with their lines, and the line of the row after them if that one is too long to be read.
type Chunk = (Vec<(u64, Vec<u8>)>, Option<u64>);

impl<R: Read> Lines<R> {
    fn new(file: R, limits: Limits) -> Lines<R> {
        Lines { reader: BufReader::with_capacity(1 << 20, file), hasher: Hasher::default(), line: 0, limits }
    }

    /// The next rows; none and no line that is too long at the end of the file.
    fn chunk(&mut self) -> std::io::Result<Chunk> {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while chunk.len() < self.limits.rows && bytes < self.limits.bytes {
            let mut text = Vec::new();
            let read = self.reader.by_ref().take(self.limits.row + 1).read_until(b'\n', &mut text)?;
            if read == 0 {
                break;
            }
            self.line += 1;
            if read as u64 > self.limits.row {
                return Ok((chunk, Some(self.line)));
            }
            self.hasher.update(&text);
            if self.line == 1 && text.starts_with(b"\xef\xbb\xbf") {
                text.drain(..3);
            }
            if !text.iter().all(u8::is_ascii_whitespace) {
                bytes += text.len();
                chunk.push((self.line, text));
            }
        }
        Ok((chunk, None))
    }
}

fn parse_row(text: &[u8], reading: &Reading, line: u64) -> Result<Example, RowError> {
    let row: Map<String, Json> = serde_json::from_slice(text).map_err(|error| RowError::NotJson(error.to_string()))?;
    let (mut tokens, mut targets) = if row.contains_key("input_ids") {
        from_tokens(&row, reading.vocabulary)?
    } else if row.contains_key("messages") {
        from_messages(&row, reading.encoder)?
    } else if row.contains_key("prompt") || row.contains_key("completion") {
        from_prompt(&row, reading.encoder)?
    } else if row.contains_key("text") {
        from_text(&row, reading.encoder)?
    } else {
        let keys: Vec<String> = row.keys().take(8).map(|key| format!("`{key}`")).collect();
        return Err(RowError::Form(if keys.is_empty() { "no keys".into() } else { keys.join(", ") }));
    };
    let whole = (tokens.len(), targets.len());
    tokens.truncate(reading.max_length);
    targets.retain(|target| (target.position as usize) + 1 < tokens.len());
    let ids = tokens.iter().chain(targets.iter().map(|target| &target.token));
    match ids.copied().find(|&token| token as usize >= reading.vocabulary) {
        Some(token) => Err(RowError::Vocabulary { token: token.into(), vocabulary: reading.vocabulary }),
        None => {
            let (cut, targets_cut) = (tokens.len() < whole.0, targets.len() < whole.1);
            Ok(Example { cut, targets_cut, ..Example::new(line, tokens, targets) })
        }
    }
}

type TokensAndTargets = (Vec<u32>, Vec<Target>);

fn from_prompt(row: &Map<String, Json>, encoder: &Encoder) -> Result<TokensAndTargets, RowError> {
    let prompt = encoder.encode(string(row, "prompt")?, true)?;
    let completion = encoder.encode(string(row, "completion")?, false)?;
    let start = prompt.len();
    let tokens = [prompt, completion].concat();
    let targets = targets_where(&tokens, |place| place >= start);
    Ok((tokens, targets))
}

fn from_messages(row: &Map<String, Json>, encoder: &Encoder) -> Result<TokensAndTargets, RowError> {
    let expected = "a list of objects with `role` and `content`";
    let messages = row["messages"].as_array().ok_or(RowError::Type { field: "messages", expected })?;
    if messages.iter().any(|message| message.get("role").and_then(Json::as_str).is_none()) {
        return Err(RowError::Type { field: "messages", expected });
    }
    let (tokens, said) = encoder.encode_chat(messages, row.get("tools"))?;
    let targets = targets_where(&tokens, |place| said[place]);
    Ok((tokens, targets))
}

fn from_text(row: &Map<String, Json>, encoder: &Encoder) -> Result<TokensAndTargets, RowError> {
    let tokens = encoder.encode(string(row, "text")?, true)?;
    let targets = targets_where(&tokens, |_| true);
    Ok((tokens, targets))
}

fn from_tokens(row: &Map<String, Json>, vocabulary: usize) -> Result<TokensAndTargets, RowError> {
    let ids = integers(row, "input_ids")?;
    let mut labels = integers(row, "labels")?;
    if labels.len() != ids.len() {
        return Err(RowError::Lengths { labels: labels.len(), tokens: ids.len() });
    }
    let outside = |token| RowError::Vocabulary { token, vocabulary };
    let mut tokens =
        ids.iter().map(|&id| u32::try_from(id).map_err(|_| outside(id))).collect::<Result<Vec<u32>, _>>()?;
    if row.contains_key("attention_mask") {
        let seen = seen_places(&integers(row, "attention_mask")?, tokens.len())?;
        tokens.truncate(seen);
        labels.truncate(seen);
    }
    let mut targets = Vec::new();
    for (place, &label) in labels.iter().enumerate().skip(1) {
        if label != IGNORED {
            let token = u32::try_from(label).map_err(|_| outside(label))?;
            targets.push(Target { position: (place - 1) as u32, token });
        }
    }
    Ok((tokens, targets))
}

/// How many places an attention mask shows, all of them before those it hides.
fn seen_places(mask: &[i64], tokens: usize) -> Result<usize, RowError> {
    let seen = mask.iter().take_while(|&&shown| shown != 0).count();
    let hidden_only = mask[seen..].iter().all(|&shown| shown == 0);
    if mask.len() == tokens && hidden_only { Ok(seen) } else { Err(RowError::Mask) }
}

/// A target for each token from the second on whose place is wanted; the first token has no place before it.
fn targets_where(tokens: &[u32], wanted: impl Fn(usize) -> bool) -> Vec<Target> {
    (1..tokens.len())
        .filter(|&place| wanted(place))
        .map(|place| Target { position: (place - 1) as u32, token: tokens[place] })
        .collect()
}

fn string<'a>(row: &'a Map<String, Json>, field: &'static str) -> Result<&'a str, RowError> {
    let value = row.get(field).ok_or(RowError::Missing(field))?;
    value.as_str().ok_or(RowError::Type { field, expected: "a string" })
}

fn integers(row: &Map<String, Json>, field: &'static str) -> Result<Vec<i64>, RowError> {
    let wrong = RowError::Type { field, expected: "a list of whole numbers" };
    let Some(values) = row.get(field).ok_or(RowError::Missing(field))?.as_array() else { return Err(wrong) };
    values.iter().map(Json::as_i64).collect::<Option<_>>().ok_or(wrong)
}

impl Example {
    /// An example of which nothing was cut off.
    pub fn new(line: u64, tokens: Vec<u32>, targets: Vec<Target>) -> Example {
        Example { line, tokens, targets, cut: false, targets_cut: false }
    }

    /// Digest of the example's tokens and targets; its line, and whether it was cut, do not count.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        let tokens: Vec<u8> = self.tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        hasher.update_framed(&tokens);
        let pairs = self.targets.iter().flat_map(|target| [target.position, target.token]);
        let targets: Vec<u8> = pairs.flat_map(u32::to_le_bytes).collect();
        hasher.update_framed(&targets);
        hasher.finish()
    }

    /// The prompt and the completion, where the example is one prompt and one completion: its targets are one run of
    /// its own tokens with something before them. What follows the run (a template's line break) is in neither.
    ///
    /// None where targets were cut off: what is left of a completion is another completion.
    pub fn completion(&self) -> Option<(&[u32], &[u32])> {
        if self.targets_cut {
            return None;
        }
        let start = self.targets.first()?.position as usize + 1;
        let end = start + self.targets.len();
        let completion = self.tokens.get(start..end)?;
        let one_run = self.targets.iter().zip(start..).all(|(target, place)| target.position as usize + 1 == place);
        let own = self.targets.iter().zip(completion).all(|(target, token)| target.token == *token);
        // A text that is a target from its second token on has no prompt.
        (one_run && own && start > 1).then(|| (&self.tokens[..start], completion))
    }
}

/// Digest of examples in their order.
pub fn digest<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Digest {
    let mut hasher = Hasher::default();
    examples.into_iter().for_each(|example| hasher.update(example.digest().as_bytes()));
    hasher.finish()
}

/// A seeded sample of `count` out of `all`, without repetition, in ascending order; everything where `count ≥ all`.
///
/// The same seed gives the same sample on every machine and in every release.
pub fn sample(all: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..all).collect();
    if count >= all {
        return indices;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for i in 0..count {
        let j = random.random_range(i as u64..all as u64) as usize;
        indices.swap(i, j);
    }
    indices.truncate(count);
    indices.sort_unstable();
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that repeats itself without an end.
    struct Endless(&'static [u8], usize);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            for byte in buffer.iter_mut() {
                *byte = self.0[self.1 % self.0.len()];
                self.1 += 1;
            }
            Ok(buffer.len())
        }
    }

    #[test]
    fn a_row_without_an_end_is_too_long_and_no_more_of_it_is_read() {
        let mut lines = Lines::new(Endless(b"x", 0), LIMITS);
        let (chunk, too_long) = lines.chunk().unwrap();
        assert_eq!((chunk.len(), too_long), (0, Some(1)));
    }

    #[test]
    fn the_rows_before_one_that_is_too_long_are_still_read() {
        let limits = Limits { row: 8, ..LIMITS };
        let (chunk, too_long) = Lines::new(&b"one\n\ntwo\nmuch too long\n"[..], limits).chunk().unwrap();
        let rows: Vec<u64> = chunk.iter().map(|(line, _)| *line).collect();
        assert_eq!((rows, too_long), (vec![1, 3], Some(4)));
    }

    #[test]
    fn a_chunk_is_bounded_by_its_bytes_and_by_its_rows() {
        let chunk = |limits| Lines::new(Endless(b"1234567\n", 0), limits).chunk().unwrap().0.len();
        assert_eq!(chunk(Limits { row: 8, rows: 100, bytes: 24 }), 3);
        assert_eq!(chunk(Limits { row: 8, rows: 2, bytes: 24 }), 2);
    }
}
