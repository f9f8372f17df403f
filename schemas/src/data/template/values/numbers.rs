//! Numbers: integers and floats, and truths, which are numbers too.

use minijinja::Value;
use minijinja::value::ValueKind;

/// A number; True and False are 1 and 0.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    /// The nearest float.
    pub(crate) fn float(self) -> f64 {
        match self {
            Number::Integer(integer) => integer as f64,
            Number::Float(float) => float,
        }
    }
}

/// The number that a value is, if it is one.
pub(crate) fn number(value: &Value) -> Option<Number> {
    match value.kind() {
        ValueKind::Bool => Some(Number::Integer(i128::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok().map(Number::Integer),
        ValueKind::Number => f64::try_from(value.clone()).ok().map(Number::Float),
        _ => None,
    }
}

/// The whole number that a value is, if it is one of 64 bits.
pub(crate) fn integer(value: &Value) -> Option<i64> {
    match number(value)? {
        Number::Integer(integer) => i64::try_from(integer).ok(),
        Number::Float(_) => None,
    }
}

/// An integer as the engine keeps it: as small as it can.
pub(crate) fn integer_value(integer: i128) -> Value {
    i64::try_from(integer).map_or_else(|_| Value::from(integer), Value::from)
}
