//! Items, attributes and slices of values.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::fault::failed;
use super::methods;
use super::values::{Range, indices, integer, is_list, items, sequence, text_slice, type_name, visit_key, visit_text};

/// `value[key]`.
pub(super) fn item(state: &State, value: &Value, key: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(failed("an undefined value has no items"));
    }
    let name = key.as_str();
    if value.kind() == ValueKind::Map {
        visit_key(state, key)?;
        let found = value.as_object().and_then(|object| object.get_value(key));
        return Ok(found.or_else(|| methods::unbound(value, name?)).unwrap_or_default());
    }
    if let (Some(index), true) = (integer(key), is_indexed(value)) {
        visit_text(state, value.as_str().unwrap_or_default())?;
        return Ok(at(value, index).unwrap_or_default());
    }
    match name {
        Some(name) => attribute(value, name),
        None => Ok(Value::UNDEFINED),
    }
}

fn is_indexed(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::String)
}

fn at(value: &Value, index: i64) -> Option<Value> {
    let length = || match value.as_str() {
        Some(text) => text.chars().count(),
        None => value.len().unwrap_or(0),
    };
    let index = if index < 0 { i64::try_from(length()).ok()?.checked_add(index)? } else { index };
    let index = usize::try_from(index).ok()?;
    match value.as_str() {
        Some(text) => text.chars().nth(index).map(Value::from),
        None => value.as_object()?.get_value(&Value::from(index)),
    }
}

/// `value.name` where `name` is that of a method, or hidden.
pub(super) fn attribute(value: &Value, name: &str) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(failed(format!("an undefined value has no `{name}`")));
    }
    if let Some(method) = methods::unbound(value, name) {
        return Ok(method);
    }
    let found = value
        .as_object()
        .filter(|_| value.kind() == ValueKind::Map)
        .and_then(|object| object.get_value(&Value::from(name)));
    Ok(found.unwrap_or_default())
}

/// `value[start:stop:step]`.
pub(super) fn slice(state: &State, value: &Value, bounds: [Option<i64>; 3]) -> Result<Value, Error> {
    visit_text(state, value.as_str().unwrap_or_default())?;
    if let Some(range) = value.downcast_object_ref::<Range>() {
        return range.slice(bounds).map(Value::from_object);
    }
    if value.as_str().is_none() && !is_list(value) {
        return Err(failed(format!("'{}' cannot be sliced", type_name(value))));
    }
    let all = match value.as_str() {
        Some(text) if bounds[2].is_none_or(|step| step == 1) => return Ok(Value::from(text_slice(text, bounds))),
        _ => items(state, value)?,
    };
    let picked = indices(all.len(), bounds)?.into_iter().filter_map(|index| all.get(index).cloned());
    if value.as_str().is_some() {
        return Ok(Value::from(picked.map(|c| c.to_string()).collect::<String>()));
    }
    Ok(sequence(picked.collect(), value.is_tuple()))
}
