//! Jinja2's tests: what follows `is`.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::arguments::Arguments;
use super::fault::failed;
use super::filters;
use super::values::{self, Number};

/// A test of a value, with its arguments.
pub(super) type Test = fn(&mut State, &Value, &mut Arguments) -> Result<bool, Error>;

/// Every test by its name. Those whose names are no words can only be named by filters such as `select`.
pub(super) const ALL: [(&str, Test); 39] = [
    ("boolean", |_, value, _| Ok(value.kind() == ValueKind::Bool)),
    ("callable", |_, value, _| Ok(value.kind() == ValueKind::Plain)),
    ("defined", |_, value, _| Ok(!value.is_undefined())),
    ("divisibleby", |state, value, arguments| {
        let rest = values::arithmetic(state, value, "%", &arguments.required("num")?)?;
        Ok(!rest.is_true())
    }),
    ("eq", |state, value, arguments| compare(state, value, "==", arguments)),
    ("equalto", |state, value, arguments| compare(state, value, "==", arguments)),
    ("==", |state, value, arguments| compare(state, value, "==", arguments)),
    ("ne", |state, value, arguments| compare(state, value, "!=", arguments)),
    ("!=", |state, value, arguments| compare(state, value, "!=", arguments)),
    ("lt", |state, value, arguments| compare(state, value, "<", arguments)),
    ("lessthan", |state, value, arguments| compare(state, value, "<", arguments)),
    ("<", |state, value, arguments| compare(state, value, "<", arguments)),
    ("le", |state, value, arguments| compare(state, value, "<=", arguments)),
    ("<=", |state, value, arguments| compare(state, value, "<=", arguments)),
    ("gt", |state, value, arguments| compare(state, value, ">", arguments)),
    ("greaterthan", |state, value, arguments| compare(state, value, ">", arguments)),
    (">", |state, value, arguments| compare(state, value, ">", arguments)),
    ("ge", |state, value, arguments| compare(state, value, ">=", arguments)),
    (">=", |state, value, arguments| compare(state, value, ">=", arguments)),
    ("in", |state, value, arguments| values::contains(state, &arguments.required("seq")?, value)),
    ("escaped", |_, _, _| Ok(false)),
    ("even", |state, value, _| parity(state, value, 0)),
    ("odd", |state, value, _| parity(state, value, 1)),
    ("false", |_, value, _| Ok(value.kind() == ValueKind::Bool && !value.is_true())),
    ("true", |_, value, _| Ok(value.kind() == ValueKind::Bool && value.is_true())),
    ("filter", |_, value, _| Ok(filters::ALL.iter().any(|(name, _)| Some(*name) == value.as_str()))),
    ("test", |_, value, _| Ok(is_test(value.as_str()))),
    ("float", |_, value, _| Ok(matches!(values::number(value), Some(Number::Float(_))))),
    ("integer", |_, value, _| Ok(value.kind() == ValueKind::Number && value.is_integer())),
    ("iterable", |_, value, _| Ok(is_iterable(value))),
    ("lower", |state, value, _| {
        let text = values::string(state, value)?;
        Ok(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase))
    }),
    ("undefined", |_, value, _| Ok(value.is_undefined())),
    ("upper", |state, value, _| {
        let text = values::string(state, value)?;
        Ok(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase))
    }),
    ("mapping", |_, value, _| Ok(value.kind() == ValueKind::Map && !values::is_no_dict(value))),
    ("none", |_, value, _| Ok(value.is_none())),
    ("number", |_, value, _| Ok(matches!(value.kind(), ValueKind::Number | ValueKind::Bool))),
    ("sameas", |_, value, arguments| same(value, &arguments.required("other")?)),
    ("sequence", |_, value, _| Ok(is_sequence(value))),
    ("string", |_, value, _| Ok(value.kind() == ValueKind::String)),
];

fn is_test(name: Option<&str>) -> bool {
    ALL.iter().any(|(known, _)| Some(*known) == name)
}

fn compare(state: &State, value: &Value, operator: &str, arguments: &mut Arguments) -> Result<bool, Error> {
    values::compare(state, value, operator, &arguments.required("other")?)
}

fn parity(state: &State, value: &Value, rest: i64) -> Result<bool, Error> {
    let found = values::arithmetic(state, value, "%", &Value::from(2))?;
    values::compare(state, &found, "==", &Value::from(rest))
}

/// Whether two values are one; only those are known of which there is one each.
fn same(a: &Value, b: &Value) -> Result<bool, Error> {
    let single = |value: &Value| matches!(value.kind(), ValueKind::None | ValueKind::Bool | ValueKind::Undefined);
    match (single(a), single(b)) {
        (true, true) => Ok(a.kind() == b.kind() && a.is_true() == b.is_true()),
        (false, false) => Err(failed("`sameas` is supported only for none, true and false")),
        _ => Ok(false),
    }
}

fn is_iterable(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Iterable => true,
        ValueKind::Map => !values::is_no_dict(value),
        _ => false,
    }
}

fn is_sequence(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq => true,
        ValueKind::Map => !values::is_no_dict(value),
        _ => false,
    }
}
