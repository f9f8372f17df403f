//! Methods of strings.

use minijinja::value::Tuple;
use minijinja::{Error, State, Value};

use crate::data::template::arguments::Arguments;
use crate::data::template::fault::failed;
use crate::data::template::values::strings::{
    cased, expanded, is, lines, pad, replaced, stripped, words, words_from_end,
};
use crate::data::template::values::{self, Text, items, visit_text};

/// `text.name(arguments)`.
pub(crate) fn of_string(state: &State, text: &str, name: &str, arguments: &mut Arguments) -> Result<Value, Error> {
    match name {
        "upper" | "lower" | "casefold" | "capitalize" | "title" | "swapcase" => Ok(Value::from(cased(text, name))),
        "strip" | "lstrip" | "rstrip" => {
            let characters = arguments.optional_text("chars")?;
            Ok(Value::from(stripped(text, name, characters.as_deref())))
        }
        "startswith" | "endswith" => affixed(state, text, name, arguments),
        "split" | "rsplit" => split(state, text, name == "rsplit", arguments),
        "splitlines" => {
            let keep = arguments.truth("keepends");
            // Each part takes more room than its text.
            state.consume_fuel(text.len() as u64 / 2)?;
            Ok(lines(text, keep).into_iter().map(Value::from).collect())
        }
        "replace" => {
            let (old, new) = (arguments.text("old")?, arguments.text("new")?);
            let count = arguments.integer("count", -1)?;
            replaced(state, text, &old, &new, count).map(Value::from)
        }
        "join" => joined(state, text, &arguments.required("iterable")?),
        "find" | "rfind" | "index" | "rindex" | "count" => found(text, name, arguments),
        "partition" | "rpartition" => {
            let separator = arguments.text("sep")?;
            partition(text, &separator, name == "rpartition")
        }
        "removeprefix" => {
            let prefix = arguments.text("prefix")?;
            Ok(Value::from(text.strip_prefix(prefix.as_str()).unwrap_or(text)))
        }
        "removesuffix" => {
            let suffix = arguments.text("suffix")?;
            Ok(Value::from(text.strip_suffix(suffix.as_str()).unwrap_or(text)))
        }
        "center" | "ljust" | "rjust" | "zfill" => padded(text, name, arguments),
        "expandtabs" => expanded(text, arguments.integer("tabsize", 8)?).map(Value::from),
        name if name.starts_with("is") => {
            is(text, name).map(Value::from).ok_or_else(|| failed(format!("`{name}` is not supported")))
        }
        _ => Err(failed(format!("`{name}` is not supported"))),
    }
}

fn affixed(state: &State, text: &str, name: &str, arguments: &mut Arguments) -> Result<Value, Error> {
    let affixes = arguments.required("prefix")?;
    let text = bounded(text, arguments)?;
    let test = |affix: &Value| match affix.as_str() {
        Some(affix) => Ok(if name == "startswith" { text.starts_with(affix) } else { text.ends_with(affix) }),
        None => Err(failed(format!("`{name}` takes a string or a tuple of strings"))),
    };
    if !affixes.is_tuple() {
        return test(&affixes).map(Value::from);
    }
    for affix in items(state, &affixes)? {
        visit_text(state, affix.as_str().unwrap_or_default())?;
        if test(&affix)? {
            return Ok(Value::from(true));
        }
    }
    Ok(Value::from(false))
}

/// The part of a string that a start and an end leave.
fn bounded<'a>(text: &'a str, arguments: &mut Arguments) -> Result<&'a str, Error> {
    let bounds = [arguments.optional_integer("start")?, arguments.optional_integer("end")?, None];
    Ok(if bounds == [None; 3] { text } else { values::text_slice(text, bounds) })
}

fn split(state: &State, text: &str, from_end: bool, arguments: &mut Arguments) -> Result<Value, Error> {
    let separator = arguments.optional_text("sep")?;
    let most = usize::try_from(arguments.integer("maxsplit", -1)?).unwrap_or(usize::MAX).saturating_add(1);
    let parts = match separator.as_deref() {
        Some("") | None => text.len() / 2,
        Some(separator) => text.matches(separator).take(most).count(),
    };
    // Each part takes more room than its text.
    state.consume_fuel(parts as u64 / 2)?;
    let parts: Vec<&str> = match separator.as_deref() {
        Some("") => return Err(failed("empty separator")),
        Some(separator) if from_end => {
            let mut parts: Vec<&str> = text.rsplitn(most, separator).collect();
            parts.reverse();
            parts
        }
        Some(separator) => text.splitn(most, separator).collect(),
        None if from_end => words_from_end(text, most),
        None => words(text, most),
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

fn joined(state: &State, separator: &str, parts: &Value) -> Result<Value, Error> {
    let mut out = Text::new();
    for (i, part) in items(state, parts)?.iter().enumerate() {
        out.push(if i > 0 { separator } else { "" })?;
        out.push(part.as_str().ok_or_else(|| failed("`join` takes strings"))?)?;
    }
    Ok(Value::from(out.finish()))
}

fn found(text: &str, name: &str, arguments: &mut Arguments) -> Result<Value, Error> {
    let wanted = arguments.text("sub")?;
    let start = arguments.optional_integer("start")?;
    let end = arguments.optional_integer("end")?;
    let part = if start.is_none() && end.is_none() { text } else { values::text_slice(text, [start, end, None]) };
    if name == "count" {
        let count = if wanted.is_empty() { part.chars().count() + 1 } else { part.matches(wanted.as_str()).count() };
        return Ok(Value::from(count));
    }
    let at = if name.starts_with('r') { part.rfind(&wanted) } else { part.find(&wanted) };
    let before = start.map_or(0, |start| values::text_slice(text, [None, Some(start), None]).len());
    match at {
        Some(at) => Ok(Value::from(text.get(..before + at).unwrap_or_default().chars().count())),
        None if name.ends_with("find") => Ok(Value::from(-1)),
        None => Err(failed("substring not found")),
    }
}

fn partition(text: &str, separator: &str, from_end: bool) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(failed("empty separator"));
    }
    let parts = if from_end { text.rsplit_once(separator) } else { text.split_once(separator) };
    let parts = match parts {
        Some((before, after)) => [before, separator, after],
        None if from_end => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

fn padded(text: &str, name: &str, arguments: &mut Arguments) -> Result<Value, Error> {
    let width = usize::try_from(arguments.integer("width", 0)?).unwrap_or(0);
    let fill = if name == "zfill" { None } else { arguments.optional("fillchar") };
    let fill = match fill {
        None => ' ',
        Some(fill) => {
            let text = fill.to_string();
            let mut characters = text.chars();
            match (characters.next(), characters.next()) {
                (Some(c), None) => c,
                _ => return Err(failed("the fill character must be exactly one character long")),
            }
        }
    };
    pad(text, name, width, fill).map(Value::from)
}
