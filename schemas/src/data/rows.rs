//! The forms of a row, each to tokens and targets.
//!
//! A row is one of
//! - `{"prompt", "completion"}`: the prompt with special tokens, the completion without; its tokens are the targets;
//! - `{"messages": [{"role", "content"}, …]}`, with `tools` if need be: the model's own chat template; the assistant's
//!   turns are the targets;
//! - `{"text"}`: all of it is a target;
//! - `{"input_ids", "labels"}`: tokens already; −100 where there is no target. Needs no tokenizer.
//!
//! Other keys are left alone, as data sets have columns of their own.

use serde_json::{Map, Value as Json};

use crate::data::{Encoder, Example, Target, TokenError};

/// What stands in `labels` where there is no target, as everywhere in PyTorch.
pub const IGNORED: i64 = -100;
/// The longest row read, in bytes.
pub(super) const MAX_ROW: u64 = 1 << 26;

/// What is wrong with a row.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
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
    #[error("`attention_mask` hides positions before the last token; only padding on the right is understood")]
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

/// Makes an example of the text of a row, which stands on `line`.
pub(super) fn parse_row(text: &[u8], reading: &Reading, line: u64) -> Result<Example, RowError> {
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
    let targets = targets_where(&tokens, |position| position >= start);
    Ok((tokens, targets))
}

fn from_messages(row: &Map<String, Json>, encoder: &Encoder) -> Result<TokensAndTargets, RowError> {
    let expected = "a list of objects with `role` and `content`";
    let messages = row["messages"].as_array().ok_or(RowError::Type { field: "messages", expected })?;
    if messages.iter().any(|message| message.get("role").and_then(Json::as_str).is_none()) {
        return Err(RowError::Type { field: "messages", expected });
    }
    let (tokens, said) = encoder.encode_chat(messages, row.get("tools"))?;
    let targets = targets_where(&tokens, |position| said[position]);
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
        let seen = visible_positions(&integers(row, "attention_mask")?, tokens.len())?;
        tokens.truncate(seen);
        labels.truncate(seen);
    }
    let mut targets = Vec::new();
    for (position, &label) in labels.iter().enumerate().skip(1) {
        if label != IGNORED {
            let token = u32::try_from(label).map_err(|_| outside(label))?;
            targets.push(Target { position: (position - 1) as u32, token });
        }
    }
    Ok((tokens, targets))
}

/// How many positions an attention mask shows; all of them must come before those that it hides.
fn visible_positions(mask: &[i64], tokens: usize) -> Result<usize, RowError> {
    let seen = mask.iter().take_while(|&&shown| shown != 0).count();
    let hidden_only = mask[seen..].iter().all(|&shown| shown == 0);
    if mask.len() == tokens && hidden_only { Ok(seen) } else { Err(RowError::Mask) }
}

/// A target for each token from the second on whose position is wanted; before the first there is no position to
/// predict it at.
fn targets_where(tokens: &[u32], wanted: impl Fn(usize) -> bool) -> Vec<Target> {
    (1..tokens.len())
        .filter(|&position| wanted(position))
        .map(|position| Target { position: (position - 1) as u32, token: tokens[position] })
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
