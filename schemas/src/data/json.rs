//! The JSON text of a row to an object, as strictly as the row is to be read alike everywhere: no key stands twice, no
//! number is rounded unseen, no half of a character is let in. Messages say what is wrong, where, and how to cure it.
//! Values take many times the room of their text: how many there are is bounded while they are read.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value as Json};

/// From here on not every whole number is a float.
const FLOATS_SKIP: f64 = (1_u64 << 63) as f64;

/// The most values of a row, keys included: four lists of half a million token ids.
const MAX_VALUES: usize = 1 << 21;

/// The most objects and arrays of a row, each of which takes the room of several values.
const MAX_CONTAINERS: usize = 1 << 17;

/// Text that is not the JSON object that a row is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", Place(*.line, *.column))]
pub struct JsonError {
    /// What is wrong, and what would be right.
    pub reason: String,
    /// The line within the text, from 1; none where the text is one line, or no text.
    pub line: Option<usize>,
    /// The character in its line, from 1; none where the whole text is meant.
    pub column: Option<usize>,
}

impl JsonError {
    /// An error that has no place in a text.
    pub(super) fn whole(reason: impl Into<String>) -> JsonError {
        JsonError { reason: reason.into(), line: None, column: None }
    }
}

struct Place(Option<usize>, Option<usize>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place(Some(line), Some(column)) => write!(f, "line {line}, column {column}: "),
            Place(None, Some(column)) => write!(f, "column {column}: "),
            Place(_, None) => Ok(()),
        }
    }
}

/// The object that a text is, its keys in their order.
///
/// # Errors
/// For text that is not UTF-8 or not JSON, JSON that is not an object, a key that stands twice in an object, and a whole
/// number beyond 64 bits.
pub(super) fn object(text: &[u8]) -> Result<Map<String, Json>, JsonError> {
    match value(text, &mut Count::default())? {
        Json::Object(object) => Ok(object),
        other => Err(JsonError::whole(format!("{} where an object is expected", kind(&other)))),
    }
}

/// The JSON value that a text is, under the same rules as [`object`]; counted with what was read of its row before.
pub(super) fn value(text: &[u8], count: &mut Count) -> Result<Json, JsonError> {
    let text = std::str::from_utf8(text).map_err(|error| not_utf8(text, error.valid_up_to()))?;
    let mut large = false;
    let mut reader = serde_json::Deserializer::from_str(text);
    let parsed = de::DeserializeSeed::deserialize(Strict { count, large: &mut large }, &mut reader);
    let parsed = parsed.and_then(|value| reader.end().map(|()| value)).map_err(|error| explain(text, &error))?;
    match large.then(|| whole_number_beyond_64_bits(text)).flatten() {
        Some(at) => Err(at_byte(text, at, "a whole number beyond 64 bits; write it as a string")),
        None => Ok(parsed),
    }
}

/// What a value is, for messages.
fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

/// What has been read of a row.
#[derive(Default)]
pub(super) struct Count {
    values: usize,
    containers: usize,
}

impl Count {
    /// Accounts for a value or a key.
    pub(super) fn value(&mut self) -> Result<(), String> {
        self.values = self.values.saturating_add(1);
        if self.values > MAX_VALUES {
            Err(format!("a row with more than {MAX_VALUES} values and keys"))
        } else {
            Ok(())
        }
    }

    /// Accounts for what an object or array takes beyond its values.
    pub(super) fn container(&mut self) -> Result<(), String> {
        self.containers = self.containers.saturating_add(1);
        match self.containers > MAX_CONTAINERS {
            true => Err(format!("a row with more than {MAX_CONTAINERS} objects and arrays")),
            false => Ok(()),
        }
    }
}

/// Reads any value; notes numbers that may have been whole and are floats now.
struct Strict<'a> {
    count: &'a mut Count,
    large: &'a mut bool,
}

impl Strict<'_> {
    fn inner(&mut self) -> Strict<'_> {
        Strict { count: self.count, large: self.large }
    }
}

impl<'de> de::DeserializeSeed<'de> for Strict<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        self.count.value().map_err(de::Error::custom)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
        *self.large |= value.abs() >= FLOATS_SKIP;
        Number::from_f64(value).map(Json::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Json, A::Error> {
        self.count.container().map_err(de::Error::custom)?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(self.inner())? {
            array.push(element);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Json, A::Error> {
        self.count.container().map_err(de::Error::custom)?;
        let mut object = Map::new();
        while let Some(Key(key)) = entries.next_key()? {
            self.count.value().map_err(de::Error::custom)?;
            if object.contains_key(&key) {
                let key: String = key.chars().take(60).collect();
                return Err(de::Error::custom(format!("the key `{}` stands twice in an object", key.escape_debug())));
            }
            object.insert(key, entries.next_value_seed(self.inner())?);
        }
        Ok(Json::Object(object))
    }
}

struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        String::deserialize(deserializer).map(Key)
    }
}

/// The place of the first whole number that no 64 bits hold. Only for text that is JSON.
fn whole_number_beyond_64_bits(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        let length = match byte {
            b'"' => string_length(rest),
            b'-' | b'0'..=b'9' => rest.iter().take_while(|byte| b"+-.eE0123456789".contains(byte)).count(),
            _ => 1,
        };
        let token = text.get(at..at + length).unwrap_or_default();
        let whole = byte != b'"' && token.bytes().any(|byte| byte.is_ascii_digit()) && !token.contains(['.', 'e', 'E']);
        if whole && token.parse::<u64>().is_err() && token.parse::<i64>().is_err() {
            return Some(at);
        }
        at += length;
    }
    None
}

/// Bytes of the string that a text begins with, quotes included.
fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    let inside = text.iter().skip(1).take_while(|&&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        !ends
    });
    inside.count() + 2
}

fn not_utf8(text: &[u8], at: usize) -> JsonError {
    let before = text.get(..at).unwrap_or_default();
    let byte = text.get(at).copied().unwrap_or_default();
    let reason = if text.contains(&0) {
        "text in UTF-16 or UTF-32; save the file as UTF-8".into()
    } else {
        format!("the byte 0x{byte:02X} is not UTF-8; if the file is in Latin-1 or Windows-1252, save it as UTF-8")
    };
    at_byte(&String::from_utf8_lossy(before), before.len(), reason)
}

/// An error at a byte of a text.
fn at_byte(text: &str, at: usize, reason: impl Into<String>) -> JsonError {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let in_line = before.rsplit('\n').next().unwrap_or_default();
    let column = Some(in_line.chars().count() + 1);
    JsonError { reason: reason.into(), line: text.trim_end().contains('\n').then_some(line), column }
}

/// serde_json's error, with the cure where the cause is known.
fn explain(text: &str, error: &serde_json::Error) -> JsonError {
    let at = byte_of(text, error.line(), error.column());
    let (said, place) = (error.to_string(), format!(" at line {} column {}", error.line(), error.column()));
    let said = said.strip_suffix(&place).unwrap_or(&said);
    if error.is_eof() {
        let reason = "the text ends within a value: is it cut short, or a value written over several lines?";
        return at_byte(text, text.trim_end().len(), reason);
    }
    at_byte(text, at, reason(text, at, said))
}

/// What serde_json says, in words that name the cure; at a byte of a text.
fn reason(text: &str, at: usize, said: &str) -> String {
    match said {
        "recursion limit exceeded" => "nested deeper than 127 levels".into(),
        "number out of range" => "a number beyond the range of floats".into(),
        "lone leading surrogate in hex escape" | "unexpected end of hex escape" | "invalid unicode code point" => {
            "half of a surrogate pair (\\ud800 to \\udfff) is no character; write both halves, or U+FFFD".into()
        }
        said if said.starts_with("control character") => {
            "a control character within a string; write it as an escape, such as \\n or \\t".into()
        }
        "expected value"
        | "expected ident"
        | "expected `:`"
        | "expected `,` or `}`"
        | "expected `,` or `]`"
        | "invalid number"
        | "key must be a string"
        | "trailing characters" => unexpected(text, at, said),
        said => said.to_owned(),
    }
}

/// What stands where something else is expected.
fn unexpected(text: &str, at: usize, said: &str) -> String {
    let found = text.get(at..).unwrap_or_default();
    let word = word_at(text, at);
    let begins_value = found.starts_with(['{', '[', '"', '-']) || found.starts_with(|c: char| c.is_ascii_digit());
    match word.trim_start_matches('-') {
        "NaN" | "Infinity" | "nan" | "inf" => return format!("JSON has no `{word}`; write null or leave the key out"),
        "None" | "True" | "False" => return format!("`{word}` is Python; JSON has null, true and false"),
        _ => {}
    }
    match (found.chars().next(), said) {
        (Some('\''), _) => "JSON's quotes are double quotes, not `'`".into(),
        (Some('\0'), _) => "a zero byte; is the file damaged?".into(),
        (Some('\u{feff}'), _) => "a byte order mark within the file, as joined files have it; take it out".into(),
        (Some('#'), _) => "JSON has no comments".into(),
        (Some('/'), _) if found.starts_with("//") || found.starts_with("/*") => "JSON has no comments".into(),
        (Some(_), "trailing characters") if begins_value && follows_lone_return(text, at) => {
            "line ends of a lone carriage return, as of old Macs; save the file with line ends of \\n".into()
        }
        (Some(_), "trailing characters") if begins_value => {
            "a second value; between rows stands a line break or, in a JSON array, a comma".into()
        }
        (Some(','), "trailing characters") => "a comma after the row; JSON lines have none between them".into(),
        (Some(_), "trailing characters") => "more text after the row's end".into(),
        (Some(_), "expected `,` or `}`" | "expected `,` or `]`") if begins_value => "a comma is missing".into(),
        (Some(c), "expected `,` or `}`" | "expected `,` or `]`") if c.is_alphabetic() => {
            format!("{said}; within a string a quote is written as \\\"")
        }
        (Some(c), "key must be a string") if c.is_alphanumeric() || c == '_' => {
            "a key without quotes; JSON's keys are strings in double quotes".into()
        }
        _ => said.to_owned(),
    }
}

/// Whether the white space before a byte has a carriage return without a line feed.
fn follows_lone_return(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let blanks = before.get(before.trim_end().len()..).unwrap_or_default();
    blanks.contains('\r') && !blanks.contains('\n')
}

/// The byte at which serde_json's column points, which counts bytes from 1.
fn byte_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut at = (start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The word that a byte of a text lies in, with its sign.
fn word_at(text: &str, at: usize) -> &str {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    let start = before.trim_end_matches(inside).len();
    let length = after.find(|c| !inside(c)).unwrap_or(after.len());
    text.get(start..at + length).unwrap_or_default()
}
