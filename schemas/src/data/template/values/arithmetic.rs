//! Arithmetic: of numbers, and `+`, `*` and `%` of strings and lists.

use minijinja::{Error, State, Value};

use super::iteration::{MAX_ITEMS, items};
use super::kinds::{is_list, sequence, type_name};
use super::numbers::{Number, integer, integer_value, number};
use super::printf;
use super::text::{MAX_TEXT, Text};
use crate::data::template::fault::failed;

/// `a op b` for one arithmetic operation.
pub(crate) fn arithmetic(state: &State, a: &Value, operator: &str, b: &Value) -> Result<Value, Error> {
    let unsupported =
        || failed(format!("unsupported operand types for {operator}: '{}' and '{}'", type_name(a), type_name(b)));
    if operator == "%"
        && let Some(format) = a.as_str()
    {
        return printf::format(state, format, b).map(Value::from);
    }
    if let (Some(x), Some(y)) = (number(a), number(b)) {
        return numbers(x, operator, y);
    }
    match operator {
        "+" => joined(state, a, b).ok_or_else(unsupported)?,
        "*" => match (integer(a), integer(b)) {
            (None, Some(times)) => repeated(state, a, times).ok_or_else(unsupported)?,
            (Some(times), None) => repeated(state, b, times).ok_or_else(unsupported)?,
            _ => Err(unsupported()),
        },
        _ => Err(unsupported()),
    }
}

/// Two strings, lists or tuples as one; none where they are not of one kind.
fn joined(state: &State, a: &Value, b: &Value) -> Option<Result<Value, Error>> {
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        let mut text = Text::new();
        let pushed = text.push(a).and_then(|()| text.push(b));
        return Some(pushed.map(|()| Value::from(text.finish())));
    }
    if !is_list(a) || !is_list(b) || a.is_tuple() != b.is_tuple() {
        return None;
    }
    let lists = items(state, a).and_then(|all| Ok((all, items(state, b)?)));
    Some(lists.and_then(|(mut all, more)| {
        all.extend(more);
        if all.len() > MAX_ITEMS { Err(failed("a list that is too long")) } else { Ok(sequence(all, a.is_tuple())) }
    }))
}

/// A string, list or tuple several times over; none where it is none.
fn repeated(state: &State, value: &Value, times: i64) -> Option<Result<Value, Error>> {
    let times = usize::try_from(times).unwrap_or(0);
    if let Some(text) = value.as_str() {
        let fits = text.len().checked_mul(times).is_some_and(|length| length <= MAX_TEXT);
        let allowed = || state.consume_fuel(text.len().saturating_mul(times) as u64 / 64);
        return Some(if fits {
            allowed().map(|()| Value::from(text.repeat(times)))
        } else {
            Err(failed("a text that is too long"))
        });
    }
    if !is_list(value) {
        return None;
    }
    Some(items(state, value).and_then(|items| {
        let fits = items.len().checked_mul(times).is_some_and(|length| length <= MAX_ITEMS);
        if !fits {
            return Err(failed("a list that is too long"));
        }
        state.consume_fuel((items.len() * times) as u64)?;
        let all = std::iter::repeat_n(items, times).flatten().collect();
        Ok(sequence(all, value.is_tuple()))
    }))
}

fn numbers(a: Number, operator: &str, b: Number) -> Result<Value, Error> {
    let zero = || failed("division by zero");
    let large = || failed("a number that is too large");
    if let (Number::Integer(a), Number::Integer(b)) = (a, b) {
        let integer = match operator {
            "+" => a.checked_add(b),
            "-" => a.checked_sub(b),
            "*" => a.checked_mul(b),
            "//" | "%" if b == 0 => return Err(zero()),
            "//" => floor_division(a, b).map(|(quotient, _)| quotient),
            "%" => floor_division(a, b).map(|(_, rest)| rest),
            "**" if b >= 0 => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
            _ => return floats(a as f64, operator, b as f64).ok_or_else(zero),
        };
        return integer.map(integer_value).ok_or_else(large);
    }
    floats(a.float(), operator, b.float()).ok_or_else(zero)
}

fn floor_division(a: i128, b: i128) -> Option<(i128, i128)> {
    let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
    if rest != 0 && (rest < 0) != (b < 0) { Some((quotient - 1, rest + b)) } else { Some((quotient, rest)) }
}

fn floats(a: f64, operator: &str, b: f64) -> Option<Value> {
    let divides = matches!(operator, "/" | "//" | "%");
    if (divides && b == 0.0) || (operator == "**" && a == 0.0 && b < 0.0) {
        return None;
    }
    let rest = || {
        let rest = a % b;
        if rest == 0.0 {
            0.0_f64.copysign(b)
        } else if (rest < 0.0) != (b < 0.0) {
            rest + b
        } else {
            rest
        }
    };
    Some(Value::from(match operator {
        "+" => a + b,
        "-" => a - b,
        "*" => a * b,
        "/" => a / b,
        "//" => ((a - rest()) / b).round(),
        "%" => rest(),
        _ => a.powf(b),
    }))
}
