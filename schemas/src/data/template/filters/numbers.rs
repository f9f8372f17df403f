//! Filters of numbers.

use minijinja::{Error, State, Value};

use crate::data::template::arguments::Arguments;
use crate::data::template::fault::failed;
use crate::data::template::values::strings::stripped;
use crate::data::template::values::{self, Number};

fn number(value: &Value) -> Result<Number, Error> {
    values::number(value).ok_or_else(|| failed(format!("a number is needed, not '{}'", values::type_name(value))))
}

pub(crate) fn abs(_: &mut State, value: &Value, _: &mut Arguments) -> Result<Value, Error> {
    match number(value)? {
        Number::Integer(integer) => {
            integer.checked_abs().map(values::integer_value).ok_or_else(|| failed("a number that is too large"))
        }
        Number::Float(float) => Ok(Value::from(float.abs())),
    }
}

pub(crate) fn float(_: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let default = arguments.optional("default").unwrap_or_else(|| Value::from(0.0));
    if value.is_undefined() {
        return Err(failed("an undefined value is no number"));
    }
    Ok(to_float(value).map(Value::from).unwrap_or(default))
}

fn to_float(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some(text) => read_float(text),
        None => values::number(value).map(Number::float),
    }
}

fn read_float(text: &str) -> Option<f64> {
    let text = stripped(text, "strip", None);
    let digit_between = |at: usize| {
        let digit = |at: Option<usize>| at.and_then(|at| text.as_bytes().get(at)).is_some_and(u8::is_ascii_digit);
        digit(at.checked_sub(1)) && digit(at.checked_add(1))
    };
    text.match_indices('_').all(|(at, _)| digit_between(at)).then(|| text.replace('_', "").parse().ok())?
}

pub(crate) fn int(_: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let default = arguments.optional("default").unwrap_or_else(|| Value::from(0));
    let base = arguments.integer("base", 10)?;
    if value.is_undefined() {
        return Err(failed("an undefined value is no number"));
    }
    let read = match (value.as_str(), values::number(value)) {
        (Some(text), _) => read_integer(text, base).or_else(|| truncated(read_float(text)?)),
        (None, Some(Number::Integer(integer))) => Some(integer),
        (None, Some(Number::Float(float))) if float.is_infinite() => {
            return Err(failed("an infinite number has no whole part"));
        }
        (None, Some(Number::Float(float))) => truncated(float),
        (None, None) => None,
    };
    Ok(read.map(values::integer_value).unwrap_or(default))
}

fn truncated(float: f64) -> Option<i128> {
    (float.is_finite() && float.abs() < 1e38).then_some(float.trunc() as i128)
}

fn read_integer(text: &str, base: i64) -> Option<i128> {
    let text = stripped(text, "strip", None).to_lowercase();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(&text)),
    };
    let prefix = match base {
        2 => "0b",
        8 => "0o",
        16 => "0x",
        _ => "",
    };
    let digits = digits.strip_prefix(prefix).unwrap_or(digits);
    let underscores = digits.starts_with('_') || digits.ends_with('_') || digits.contains("__");
    let radix = u32::try_from(base).ok().filter(|radix| (2..=36).contains(radix))?;
    if underscores || digits.starts_with(['+', '-']) {
        return None;
    }
    i128::from_str_radix(&digits.replace('_', ""), radix).ok().map(|integer| sign * integer)
}

pub(crate) fn round(_: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let precision = arguments.integer("precision", 0)?;
    let method = arguments.optional("method").map_or_else(|| "common".to_owned(), |method| method.to_string());
    let number = number(value)?;
    let digits = i32::try_from(precision).map_err(|_| failed("a precision that is too large"))?;
    match (method.as_str(), number) {
        ("common", Number::Integer(integer)) if digits >= 0 => Ok(values::integer_value(integer)),
        ("common", Number::Integer(_)) => Err(failed("rounding whole numbers to tens is not supported")),
        ("common", Number::Float(float)) if (0..300).contains(&digits) => {
            // Rust writes the exact value of a float rounded half to even, as Python's `round` does.
            let places = usize::try_from(digits).unwrap_or(0);
            let rounded: f64 =
                format!("{float:.places$}").parse().map_err(|_| failed("a number that cannot be rounded"))?;
            Ok(Value::from(rounded))
        }
        ("ceil" | "floor", number) => {
            let scale = 10_f64.powi(digits);
            let scaled = number.float() * scale;
            let rounded = if method == "ceil" { scaled.ceil() } else { scaled.floor() };
            Ok(Value::from(rounded / scale))
        }
        _ => Err(failed("`round` takes common, ceil or floor, and a small precision")),
    }
}
