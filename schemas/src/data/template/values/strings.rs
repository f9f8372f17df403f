//! What Python's methods of strings do, on strings.

use std::collections::HashSet;

use minijinja::{Error, State};

use super::printing::is_printable;
use super::text::MAX_TEXT;
use crate::data::template::fault::failed;

/// White space as Python's `str` sees it.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// A string in another case.
pub(crate) fn cased(text: &str, name: &str) -> String {
    match name {
        "upper" => text.to_uppercase(),
        "lower" => text.to_lowercase(),
        "casefold" => text.to_lowercase().replace('ß', "ss").replace('ς', "σ"),
        "capitalize" => {
            let mut rest = text.chars();
            let first = rest.next().map(title_case).unwrap_or_default();
            // The rest of the whole text, so that a final sigma is seen as one.
            let lower: String = text.to_lowercase();
            let skipped: usize = text.chars().next().map_or(0, |c| c.to_lowercase().map(char::len_utf8).sum());
            first + lower.get(skipped..).unwrap_or_default()
        }
        "title" => {
            let mut out = String::with_capacity(text.len());
            let mut within = false;
            for c in text.chars() {
                if within {
                    out.extend(c.to_lowercase())
                } else {
                    out.push_str(&title_case(c))
                }
                within = c.is_lowercase() || c.is_uppercase();
            }
            out
        }
        _ => text
            .chars()
            .flat_map(|c| -> Vec<char> {
                if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
            })
            .collect(),
    }
}

/// A character as it begins a word.
fn title_case(c: char) -> String {
    let digraph = match c {
        'Ǆ' | 'ǅ' | 'ǆ' => Some('ǅ'),
        'Ǉ' | 'ǈ' | 'ǉ' => Some('ǈ'),
        'Ǌ' | 'ǋ' | 'ǌ' => Some('ǋ'),
        'Ǳ' | 'ǲ' | 'ǳ' => Some('ǲ'),
        _ => None,
    };
    let mut upper = c.to_uppercase();
    match (digraph, upper.next()) {
        (Some(c), _) => c.to_string(),
        (None, Some(first)) => std::iter::once(first).chain(upper.flat_map(char::to_lowercase)).collect(),
        _ => String::new(),
    }
}

/// A string without white space, or without given characters, at its ends.
pub(crate) fn stripped<'a>(text: &'a str, name: &str, characters: Option<&str>) -> &'a str {
    let characters: Option<HashSet<char>> = characters.map(|characters| characters.chars().collect());
    let drop = |c: char| characters.as_ref().map_or_else(|| is_space(c), |characters| characters.contains(&c));
    let text = if name == "rstrip" { text } else { text.trim_start_matches(drop) };
    if name == "lstrip" { text } else { text.trim_end_matches(drop) }
}

/// Parts between white space, at most so many: the last is the rest.
pub(crate) fn words(text: &str, most: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        if parts.len() + 1 == most {
            parts.push(rest);
            break;
        }
        let (word, after) = rest.split_at(rest.find(is_space).unwrap_or(rest.len()));
        parts.push(word);
        rest = after.trim_start_matches(is_space);
    }
    parts
}

/// Parts between white space, at most so many: the first is the rest.
pub(crate) fn words_from_end(text: &str, most: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_end_matches(is_space);
    while !rest.is_empty() {
        if parts.len() + 1 == most {
            parts.push(rest);
            break;
        }
        let start = rest.char_indices().rev().find(|(_, c)| is_space(*c)).map_or(0, |(at, c)| at + c.len_utf8());
        let (before, word) = rest.split_at(start);
        parts.push(word);
        rest = before.trim_end_matches(is_space);
    }
    parts.reverse();
    parts
}

/// The lines of a string.
pub(crate) fn lines(text: &str, keep: bool) -> Vec<&str> {
    let breaks =
        |c: char| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let (mut lines, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (end, length) = match rest.char_indices().find(|(_, c)| breaks(*c)) {
            Some((at, '\r')) if rest.get(at + 1..).is_some_and(|after| after.starts_with('\n')) => (at, 2),
            Some((at, c)) => (at, c.len_utf8()),
            None => (rest.len(), 0),
        };
        lines.push(rest.get(..if keep { end + length } else { end }).unwrap_or_default());
        rest = rest.get(end + length..).unwrap_or_default();
    }
    lines
}

/// A string with a part replaced, `count` times or, below zero, everywhere.
pub(crate) fn replaced(state: &State, text: &str, old: &str, new: &str, count: i64) -> Result<String, Error> {
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let places = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).take(most).count() };
    let grown = places.min(most).saturating_mul(new.len()).saturating_add(text.len());
    if grown > MAX_TEXT {
        return Err(failed("a text that is too long"));
    }
    state.consume_fuel(grown as u64 / 64)?;
    Ok(text.replacen(old, new, most))
}

/// A string filled up to a width.
pub(crate) fn pad(text: &str, name: &str, width: usize, fill: char) -> Result<String, Error> {
    let missing = width.saturating_sub(text.chars().count());
    if missing > MAX_TEXT / 4 {
        return Err(failed("a text that is too long"));
    }
    let filled = |count: usize, c: char| String::from_iter(std::iter::repeat_n(c, count));
    Ok(match name {
        "ljust" => format!("{text}{}", filled(missing, fill)),
        "rjust" => format!("{}{text}", filled(missing, fill)),
        "zfill" => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            format!("{sign}{}{digits}", filled(missing, '0'))
        }
        _ => {
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", filled(left, fill), filled(missing - left, fill))
        }
    })
}

/// A string with its tabs written as spaces.
pub(crate) fn expanded(text: &str, size: i64) -> Result<String, Error> {
    let size = usize::try_from(size).unwrap_or(0);
    if text.matches('\t').count().saturating_mul(size) > MAX_TEXT / 4 {
        return Err(failed("a text that is too long"));
    }
    let (mut out, mut column) = (String::with_capacity(text.len()), 0);
    for c in text.chars() {
        match c {
            '\t' if size > 0 => {
                let spaces = size - column % size;
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\t' => {}
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            _ => {
                out.push(c);
                column += 1;
            }
        }
    }
    Ok(out)
}

/// The questions that strings answer.
pub(crate) fn is(text: &str, name: &str) -> Option<bool> {
    let all = |test: fn(char) -> bool| !text.is_empty() && text.chars().all(test);
    let has_case = text.chars().any(|c| c.is_lowercase() || c.is_uppercase());
    Some(match name {
        "isspace" => all(is_space),
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isascii" => text.is_ascii(),
        "isdigit" | "isdecimal" | "isnumeric" if text.is_ascii() => all(|c| c.is_ascii_digit()),
        "isnumeric" => all(char::is_numeric),
        "islower" => has_case && !text.chars().any(char::is_uppercase),
        "isupper" => has_case && !text.chars().any(char::is_lowercase),
        "isprintable" => text.chars().all(is_printable),
        "isidentifier" => {
            let mut rest = text.chars();
            rest.next().is_some_and(|c| c.is_alphabetic() || c == '_') && rest.all(|c| c.is_alphanumeric() || c == '_')
        }
        "istitle" => has_case && cased(text, "title") == text,
        _ => return None,
    })
}
