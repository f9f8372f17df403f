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
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde_json::{Map, Value as Json};

use crate::digest::{Digest, Hasher};
use crate::tokens::{Encoder, TokenError};

/// What stands in `labels` where there is no target, as everywhere in PyTorch.
pub const IGNORED: i64 = -100;
/// The longest row read, in bytes.
const MAX_ROW: u64 = 1 << 26;
/// Rows tokenised at a time, in parallel.
const CHUNK: usize = 1 << 12;

/// One example: a sequence of tokens and what is to be predicted in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The row's line in its file, from 1.
    pub line: u64,
    pub tokens: Vec<u32>,
    /// In the order of their positions; never empty.
    pub targets: Vec<Target>,
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
    #[error("longer than {} MiB", MAX_ROW >> 20)]
    TooLong,
    #[error("not a JSON object: {0}")]
    NotJson(String),
    #[error(
        "no known form: a row has `prompt` and `completion`, `messages`, `text`, or `input_ids` and `labels`; this one has {0}"
    )]
    Form(String),
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("`{field}` must be {expected}")]
    Type { field: &'static str, expected: &'static str },
    #[error("`labels` has {labels} entries, `input_ids` {tokens}")]
    Lengths { labels: usize, tokens: usize },
    #[error("`attention_mask` hides places before the last token; only padding on the right is understood")]
    Mask,
    #[error("token {token} is outside the model's vocabulary of {vocabulary}; is this the model's tokenizer?")]
    Vocabulary { token: i64, vocabulary: usize },
    #[error("{0}")]
    Token(#[from] TokenError),
}

/// How rows become examples.
pub struct Reading<'a> {
    pub encoder: &'a Encoder,
    /// Tokens must lie below it.
    pub vocabulary: usize,
    /// Tokens of an example; what goes beyond is cut off.
    pub max_length: usize,
}

/// Reads all rows of a JSONL file. The first bad row is the error; nothing is skipped in silence.
pub fn read(path: &Path, reading: &Reading) -> Result<Examples, ExampleError> {
    let failed = |source| ExampleError::Read { path: path.into(), source };
    let mut lines = Lines::open(path).map_err(failed)?;
    let mut out = Examples { examples: Vec::new(), rows: 0, without_targets: Vec::new(), digest: Digest::of(b"") };
    loop {
        let chunk = lines.chunk(CHUNK).map_err(failed)?;
        if chunk.is_empty() {
            break;
        }
        out.rows += chunk.len() as u64;
        let examples: Vec<Result<Example, ExampleError>> = chunk
            .par_iter()
            .map(|(line, text)| {
                let row = |reason| ExampleError::Row { path: path.into(), line: *line, reason };
                parse_row(text, reading, *line).map_err(row)
            })
            .collect();
        for example in examples {
            let example = example?;
            if example.targets.is_empty() {
                out.without_targets.push(example.line);
            } else {
                out.examples.push(example);
            }
        }
    }
    out.digest = lines.hasher.finish();
    match (out.rows, out.examples.len()) {
        (0, _) => Err(ExampleError::Empty { path: path.into() }),
        (rows, 0) => Err(ExampleError::NoTargets { path: path.into(), rows, max_length: reading.max_length }),
        _ => Ok(out),
    }
}

/// A file's lines that are not blank, with their numbers, hashed as they are read.
struct Lines {
    reader: BufReader<File>,
    hasher: Hasher,
    line: u64,
}

impl Lines {
    fn open(path: &Path) -> std::io::Result<Lines> {
        Ok(Lines { reader: BufReader::with_capacity(1 << 20, File::open(path)?), hasher: Hasher::default(), line: 0 })
    }

    fn chunk(&mut self, most: usize) -> std::io::Result<Vec<(u64, Vec<u8>)>> {
        let mut chunk = Vec::new();
        while chunk.len() < most {
            let mut text = Vec::new();
            let read = std::io::Read::take(&mut self.reader, MAX_ROW + 1).read_until(b'\n', &mut text)?;
            if read == 0 {
                break;
            }
            self.hasher.update(&text);
            self.line += 1;
            if self.line == 1 && text.starts_with(b"\xef\xbb\xbf") {
                text.drain(..3);
            }
            if !text.iter().all(u8::is_ascii_whitespace) {
                chunk.push((self.line, text));
            }
        }
        Ok(chunk)
    }
}

fn parse_row(text: &[u8], reading: &Reading, line: u64) -> Result<Example, RowError> {
    if text.len() as u64 > MAX_ROW {
        return Err(RowError::TooLong);
    }
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
    tokens.truncate(reading.max_length);
    targets.retain(|target| (target.position as usize) + 1 < tokens.len());
    let ids = tokens.iter().chain(targets.iter().map(|target| &target.token));
    match ids.copied().find(|&token| token as usize >= reading.vocabulary) {
        Some(token) => Err(RowError::Vocabulary { token: token.into(), vocabulary: reading.vocabulary }),
        None => Ok(Example { line, tokens, targets }),
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
    /// Digest of the example's tokens and targets; its line does not count.
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
    pub fn completion(&self) -> Option<(&[u32], &[u32])> {
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
