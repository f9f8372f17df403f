//! Filters of strings.

use minijinja::value::Tuple;
use minijinja::{Error, State, Value};

use crate::data::template::arguments::Arguments;
use crate::data::template::fault::failed;
use crate::data::template::values::strings;
use crate::data::template::values::{self, Text, printf};

/// `upper`, `lower` and `capitalize`.
pub(crate) fn cased(state: &State, value: &Value, name: &str) -> Result<Value, Error> {
    Ok(Value::from(strings::cased(&values::string(state, value)?, name)))
}

pub(crate) fn center(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let width = usize::try_from(arguments.integer("width", 80)?).unwrap_or(0);
    strings::pad(&values::string(state, value)?, "center", width, ' ').map(Value::from)
}

pub(crate) fn escape(state: &mut State, value: &Value, _: &mut Arguments) -> Result<Value, Error> {
    let text = values::string(state, value)?;
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&#39;")
        .replace('"', "&#34;");
    Ok(Value::from(escaped))
}

pub(crate) fn format(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let (places, named) = (arguments.rest(), arguments.rest_named());
    let values = match (places.is_empty(), named.is_empty()) {
        (false, false) => return Err(failed("`format` takes arguments by place or by name, not both")),
        (true, false) => Value::from_pairs(named),
        _ => Value::from(Tuple::from(places)),
    };
    printf::format(state, &values::string(state, value)?, &values).map(Value::from)
}

pub(crate) fn indent(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let text =
        value.as_str().ok_or_else(|| failed(format!("`indent` takes a string, not '{}'", values::type_name(value))))?;
    let width = arguments.optional("width").unwrap_or_else(|| Value::from(4));
    let indention = match width.as_str() {
        Some(text) => text.to_owned(),
        None => {
            let width = values::integer(&width).ok_or_else(|| failed("`width` must be a whole number or a string"))?;
            let width = usize::try_from(width).unwrap_or(0);
            if width > values::MAX_TEXT / 64 {
                return Err(failed("a text that is too long"));
            }
            " ".repeat(width)
        }
    };
    let (first, blank) = (arguments.truth("first"), arguments.truth("blank"));
    let whole = format!("{text}\n");
    let mut out = Text::new();
    for (i, line) in strings::lines(&whole, false).into_iter().enumerate() {
        out.push(if i > 0 { "\n" } else { "" })?;
        let indented = if i == 0 { first } else { blank || !line.is_empty() };
        if indented {
            state.consume_fuel(indention.len() as u64 / 64)?;
            out.push(&indention)?;
        }
        out.push(line)?;
    }
    Ok(Value::from(out.finish()))
}

pub(crate) fn replace(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let (old, new) =
        (values::string(state, &arguments.required("old")?)?, values::string(state, &arguments.required("new")?)?);
    let count = arguments.optional_integer("count")?.unwrap_or(-1);
    strings::replaced(state, &values::string(state, value)?, &old, &new, count).map(Value::from)
}

pub(crate) fn title(state: &mut State, value: &Value, _: &mut Arguments) -> Result<Value, Error> {
    let text = values::string(state, value)?;
    let mut out = String::with_capacity(text.len());
    let parts = text.split_inclusive(|c: char| "-({[<".contains(c) || strings::is_space(c));
    for part in parts {
        out.push_str(&strings::cased(part, "capitalize"));
    }
    Ok(Value::from(out))
}

pub(crate) fn trim(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let characters = arguments.optional_text("chars")?;
    match value.as_str() {
        Some(text) => Ok(Value::from(strings::stripped(text, "strip", characters.as_deref()))),
        None => Ok(Value::from(strings::stripped(&values::string(state, value)?, "strip", characters.as_deref()))),
    }
}

pub(crate) fn truncate(_: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let text = value.as_str().ok_or_else(|| failed("`truncate` takes a string"))?;
    let length = arguments.integer("length", 255)?;
    let kill_words = arguments.truth("killwords");
    let end = arguments.optional_text("end")?.unwrap_or_else(|| "...".into());
    let leeway = arguments.optional_integer("leeway")?.unwrap_or(5);
    let count = |text: &str| i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if length < count(&end) || leeway < 0 {
        return Err(failed("`truncate` needs a length of at least that of its end"));
    }
    if count(text) <= length.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let kept = values::text_slice(text, [None, Some(length - count(&end)), None]);
    let kept = if kill_words { kept } else { kept.rsplit_once(' ').map_or(kept, |(before, _)| before) };
    Ok(Value::from(format!("{kept}{end}")))
}

pub(crate) fn wordcount(state: &mut State, value: &Value, _: &mut Arguments) -> Result<Value, Error> {
    let text = values::string(state, value)?;
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    Ok(Value::from(words.count()))
}
