//! What may be kept in a variable: values that do not nest too deeply.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::fault::failed;
use super::methods::Method;
use super::values::{Generator, View, Visits, pairs};

/// How deep values may nest.
const MAX_DEPTH: usize = 200;

/// A value that is kept in a variable: no deeper than values may be.
pub(super) fn held(state: &State, value: Value) -> Result<Value, Error> {
    if value.as_object().is_some() {
        check(&value, 0, &mut Visits::new(state))?;
    }
    Ok(value)
}

fn check(value: &Value, depth: usize, visits: &mut Visits) -> Result<(), Error> {
    visits.one()?;
    if depth > MAX_DEPTH {
        return Err(failed(format!("values are nested more than {MAX_DEPTH} deep")));
    }
    let mut inner = |value: &Value| check(value, depth + 1, visits);
    if let Some(view) = value.downcast_object_ref::<View>() {
        view.items.iter().try_for_each(inner)
    } else if let Some(generator) = value.downcast_object_ref::<Generator>() {
        generator.inspect(inner)
    } else if let Some(method) = value.downcast_object_ref::<Method>() {
        inner(&method.receiver)
    } else {
        match value.kind() {
            ValueKind::Map => pairs(value).iter().try_for_each(|(_, item)| inner(item)),
            ValueKind::Seq => value.try_iter()?.try_for_each(|item| inner(&item)),
            _ => Ok(()),
        }
    }
}
