//! `%` between a string and values, and `str.format`.

use minijinja::formatting::{FormatStyle, format as engine_format};
use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::{Number, Text, integer, integer_value, number, string, type_name, visit_text, write_repr};
use crate::data::template::fault::failed;

/// The most characters that a width or a precision may ask for.
const MAX_WIDTH: usize = 1 << 16;

/// `format % values`.
pub(crate) fn format(state: &State, format: &str, values: &Value) -> Result<String, Error> {
    let mut places = if values.is_tuple() { values.try_iter()?.collect() } else { vec![values.clone()] };
    places.reverse();
    let by_name = values.kind() == ValueKind::Map;
    let (mut out, mut rest, mut named) = (Text::new(), format, false);
    while let Some((before, after)) = rest.split_once('%') {
        out.push(before)?;
        let spec = Spec::parse(after)?;
        rest = after.get(spec.length..).unwrap_or_default();
        if spec.conversion == '%' {
            out.push("%")?;
            continue;
        }
        let value = match spec.key {
            Some(key) if by_name => {
                named = true;
                values.as_object().and_then(|object| object.get_value(&Value::from(key)))
            }
            Some(_) => return Err(failed("format requires a mapping")),
            None => places.pop(),
        };
        let value = value.ok_or_else(|| failed("not enough arguments for format string"))?;
        let written = spec.write(state, &value)?;
        state.consume_fuel(4)?;
        visit_text(state, &written)?;
        out.push(&written)?;
    }
    out.push(rest)?;
    if !places.is_empty() && !named && !by_name {
        return Err(failed("not all arguments converted during string formatting"));
    }
    Ok(out.finish())
}

/// What follows a `%`.
struct Spec<'a> {
    key: Option<&'a str>,
    flags: &'a str,
    width: usize,
    precision: Option<usize>,
    conversion: char,
    /// Bytes after the `%`.
    length: usize,
}

impl<'a> Spec<'a> {
    fn parse(text: &'a str) -> Result<Spec<'a>, Error> {
        let incomplete = || failed("incomplete format");
        let (key, rest) = match text.strip_prefix('(') {
            Some(inner) => inner.split_once(')').map(|(key, rest)| (Some(key), rest)).ok_or_else(incomplete)?,
            None => (None, text),
        };
        let (flags, rest) = span(rest, |c| "-+ #0".contains(c));
        let (width, rest) = span(rest, |c| c.is_ascii_digit());
        let (precision, rest) = match rest.strip_prefix('.') {
            Some(rest) => {
                let (digits, rest) = span(rest, |c| c.is_ascii_digit());
                (Some(size(digits)?), rest)
            }
            None => (None, rest),
        };
        let rest = rest.trim_start_matches(['h', 'l', 'L']);
        let conversion = rest.chars().next().ok_or_else(incomplete)?;
        let length = text.len() - rest.len() + conversion.len_utf8();
        Ok(Spec { key, flags, width: size(width)?, precision, conversion, length })
    }

    fn write(&self, state: &State, value: &Value) -> Result<String, Error> {
        let wrong = || failed(format!("%{} does not take '{}'", self.conversion, type_name(value)));
        let text = match self.conversion {
            's' => {
                visit_text(state, value.as_str().unwrap_or_default())?;
                string(state, value)?
            }
            'r' => {
                let mut text = Text::new();
                write_repr(value, &mut text)?;
                state.consume_fuel(text.len() as u64 / 8)?;
                text.finish()
            }
            'c' => match (value.as_str(), integer(value)) {
                (Some(text), _) if text.chars().count() == 1 => text.to_owned(),
                (None, Some(code)) => {
                    u32::try_from(code).ok().and_then(char::from_u32).map(String::from).ok_or_else(wrong)?
                }
                _ => return Err(wrong()),
            },
            'd' | 'i' | 'u' => return self.number(value, 'd'),
            'x' | 'X' | 'o' if matches!(number(value), Some(Number::Integer(_))) => {
                return self.number(value, self.conversion);
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => return self.number(value, self.conversion),
            _ => return Err(wrong()),
        };
        let text: String = match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text,
        };
        let padding = " ".repeat(self.width.saturating_sub(text.chars().count()));
        Ok(if self.flags.contains('-') { text + &padding } else { padding + &text })
    }

    /// Numbers are written by the engine, which does it as Python.
    fn number(&self, value: &Value, conversion: char) -> Result<String, Error> {
        let number = number(value).ok_or_else(|| failed(format!("%{conversion} needs a number")))?;
        let value = match (number, conversion) {
            (Number::Float(float), 'd') if float.is_finite() => integer_value(float.trunc() as i128),
            (Number::Float(_), 'd') => return Err(failed("a float that is no whole number")),
            (Number::Integer(integer), 'd' | 'x' | 'X' | 'o') => integer_value(integer),
            (number, _) => Value::from(number.float()),
        };
        let width = if self.width > 0 { self.width.to_string() } else { String::new() };
        let precision = self.precision.map(|precision| format!(".{precision}")).unwrap_or_default();
        engine_format(FormatStyle::Printf, &format!("%{}{width}{precision}{conversion}", self.flags), &[value])
    }
}

fn span(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !wanted(c)).unwrap_or(text.len()))
}

fn size(digits: &str) -> Result<usize, Error> {
    let size = if digits.is_empty() { Ok(0) } else { digits.parse() };
    size.ok().filter(|size| *size <= MAX_WIDTH).ok_or_else(|| failed("a width that is too large"))
}

/// `format.format(…)`.
pub(crate) fn str_format(state: &State, format: &str, arguments: &[Value]) -> Result<String, Error> {
    visit_text(state, format)?;
    let widest = format.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    for digits in widest {
        size(digits)?;
    }
    // Plain fields of strings and integers are the same in both worlds; others are written here first.
    let plain = |value: &Value| match value.kind() {
        ValueKind::Number if value.is_integer() => Ok(value.clone()),
        ValueKind::String => Ok(value.clone()),
        _ if !format.contains(':') && !format.contains('!') && !format.contains('.') && !format.contains('[') => {
            string(state, value).map(Value::from)
        }
        _ => Ok(value.clone()),
    };
    let arguments: Vec<Value> = arguments
        .iter()
        .map(|value| if value.is_kwargs() { Ok(value.clone()) } else { plain(value) })
        .collect::<Result<_, _>>()?;
    engine_format(FormatStyle::StrFormat, format, &arguments)
}
