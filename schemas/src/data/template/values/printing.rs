//! What values print as: `str` and `repr`.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::kinds::{is_loop, is_no_dict, is_tuple, pairs};
use super::numbers::{Number, number};
use super::objects::{Generator, View};
use super::range::Range;
use super::text::Text;
use crate::data::template::fault::failed;

/// `str(value)`.
pub(crate) fn string(state: &State, value: &Value) -> Result<String, Error> {
    let mut text = Text::new();
    write_string(state, value, &mut text)?;
    Ok(text.finish())
}

/// Writes `str(value)`; what is no string is accounted for, as it takes longer to write than to copy.
pub(crate) fn write_string(state: &State, value: &Value, out: &mut Text) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.push(text),
        None if value.is_undefined() => Ok(()),
        None => {
            let before = out.len();
            write_repr(value, out)?;
            state.consume_fuel((out.len() - before) as u64 / 8)
        }
    }
}

/// Writes `repr(value)`.
pub(crate) fn write_repr(value: &Value, out: &mut Text) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => out.push("Undefined"),
        ValueKind::None => out.push("None"),
        ValueKind::Bool => out.push(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => match number(value) {
            Some(Number::Float(float)) => out.push(&float_repr(float)),
            _ => out.push(&value.to_string()),
        },
        ValueKind::String => write_quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Map if is_loop(value) => write_loop(value, out),
        ValueKind::Map => {
            if is_no_dict(value) {
                return Err(failed("a namespace cannot be printed"));
            }
            out.push("{")?;
            for (i, (key, item)) in pairs(value).iter().enumerate() {
                out.push(if i > 0 { ", " } else { "" })?;
                write_repr(key, out)?;
                out.push(": ")?;
                write_repr(item, out)?;
            }
            out.push("}")
        }
        ValueKind::Seq | ValueKind::Iterable => write_sequence(value, out),
        _ => Err(failed("a function or method cannot be printed")),
    }
}

fn write_loop(value: &Value, out: &mut Text) -> Result<(), Error> {
    let (index, length) = (value.get_attr("index")?, value.get_attr("length")?);
    if length.is_undefined() {
        return Err(failed("a loop over a generator cannot be printed"));
    }
    out.push(&format!("<LoopContext {index}/{length}>"))
}

fn write_sequence(value: &Value, out: &mut Text) -> Result<(), Error> {
    if let Some(range) = value.downcast_object_ref::<Range>() {
        let step = if range.step == 1 { String::new() } else { format!(", {}", range.step) };
        return out.push(&format!("range({}, {}{step})", range.start, range.stop));
    }
    if value.downcast_object_ref::<Generator>().is_some() {
        return Err(failed("a generator cannot be printed; `| list` makes a list of it"));
    }
    let view = value.downcast_object_ref::<View>().map(|view| view.name);
    let (open, close) = match view {
        Some(name) => (format!("{name}(["), "])"),
        None if is_tuple(value) => ("(".to_owned(), ")"),
        None => ("[".to_owned(), "]"),
    };
    out.push(&open)?;
    for (i, item) in value.try_iter()?.enumerate() {
        out.push(if i > 0 { ", " } else { "" })?;
        write_repr(&item, out)?;
    }
    out.push(if is_tuple(value) && value.len() == Some(1) { "," } else { "" })?;
    out.push(close)
}

/// `repr` of a string.
fn write_quoted(text: &str, out: &mut Text) -> Result<(), Error> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c == quote => quoted.extend(['\\', c]),
            c if is_printable(c) => quoted.push(c),
            c => match u32::from(c) {
                code @ ..=0xff => quoted.push_str(&format!("\\x{code:02x}")),
                code @ ..=0xffff => quoted.push_str(&format!("\\u{code:04x}")),
                code => quoted.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    quoted.push(quote);
    out.push(&quoted)
}

/// Whether Python prints a character as it is. The standard library knows of the same characters but for white space.
pub(crate) fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    let private = matches!(u32::from(c), 0xe000..=0xf8ff | 0xf_0000..);
    let escaped = c.escape_debug().len() > 1 && !is_combining(c);
    !(private || escaped || c.is_whitespace() || c.is_control())
}

/// Whether a character extends the one before it; `escape_debug` writes these as escapes, Python does not.
fn is_combining(c: char) -> bool {
    // `escape_debug` of a text escapes such a character only where it is the first.
    let mut text = String::from("a");
    text.push(c);
    text.escape_debug().count() == 2
}

/// `repr` of a float: the shortest digits that read back as it.
pub(crate) fn float_repr(float: f64) -> String {
    if float.is_nan() {
        return "nan".into();
    }
    if float.is_infinite() {
        return if float > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{float}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}
