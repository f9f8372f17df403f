//! Methods of Python's strings, lists and dicts.

mod names;
mod strings;

use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, Tuple, ValueKind};
use minijinja::{Error, State, Value};

pub(super) use self::names::is_name;

use self::names::names;
use self::strings::of_string;
use super::arguments::Arguments;
use super::fault::failed;
use super::values::{self, View, Visits, items, pairs, printf, visit_call, visit_text};

/// A method that is not called yet.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) receiver: Value,
    pub(super) name: String,
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        call(state, &self.receiver, &self.name, args)
    }
}

/// A method as a value, where it is not called at once.
pub(super) fn unbound(value: &Value, name: &str) -> Option<Value> {
    let known = names(value).contains(&name);
    known.then(|| Value::from_object(Method { receiver: value.clone(), name: name.to_owned() }))
}

/// `value.name(…)`.
pub(super) fn call(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(failed(format!("an undefined value has no `{name}`")));
    }
    if !names(value).contains(&name) {
        return other(state, value, name, arguments);
    }
    visit_call(state, arguments)?;
    let mut taken = Arguments::new(arguments);
    let result = match value.as_str() {
        Some(_) if name == "format" => {
            printf::str_format(state, value.as_str().unwrap_or_default(), arguments).map(Value::from)
        }
        Some(text) => {
            visit_text(state, text)?;
            of_string(state, text, name, &mut taken)
        }
        None if value.kind() == ValueKind::Map => of_dict(value, name, &mut taken),
        None => of_list(state, value, name, &mut taken),
    }?;
    if name != "format" {
        taken.finish()?;
    }
    Ok(result)
}

/// A call of what is no method of Python's own types.
fn other(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    if name == "changed" {
        // The engine compares them with those of the last time, and does not account for it.
        let mut visits = Visits::new(state);
        arguments.iter().try_for_each(|argument| values::equal(argument, argument, &mut visits).map(drop))?;
    }
    match value.kind() {
        ValueKind::Map if values::is_no_dict(value) && name == "cycle" && arguments.is_empty() => {
            Err(failed("no items for cycling given"))
        }
        ValueKind::Map => match value.as_object().and_then(|object| object.get_value(&Value::from(name))) {
            Some(function) => function.call(state, arguments),
            None if value.downcast_object_ref::<minijinja::value::Kwargs>().is_none() => {
                value.call_method(state, name, arguments)
            }
            None => Err(no_method(value, name)),
        },
        ValueKind::Plain | ValueKind::Iterable if value.downcast_object_ref::<View>().is_none() => {
            value.call_method(state, name, arguments)
        }
        _ => Err(no_method(value, name)),
    }
}

fn no_method(value: &Value, name: &str) -> Error {
    failed(format!("'{}' object has no method `{name}`", values::type_name(value)))
}

fn refused(name: &str) -> Error {
    failed(format!("a template may not call `{name}`, which changes a value"))
}

fn of_dict(value: &Value, name: &str, arguments: &mut Arguments) -> Result<Value, Error> {
    let view = |name, items| Ok(Value::from_object(View { name, items }));
    match name {
        "get" => {
            let key = arguments.required("key")?;
            let default = arguments.optional("default").unwrap_or(Value::from(()));
            Ok(value.as_object().and_then(|object| object.get_value(&key)).unwrap_or(default))
        }
        "items" => {
            let tuple = |(key, value)| Value::from(Tuple::from([key, value]));
            view("dict_items", pairs(value).into_iter().map(tuple).collect())
        }
        "keys" => view("dict_keys", pairs(value).into_iter().map(|(key, _)| key).collect()),
        "values" => view("dict_values", pairs(value).into_iter().map(|(_, value)| value).collect()),
        "copy" => Ok(Value::from_pairs(pairs(value))),
        _ => Err(refused(name)),
    }
}

fn of_list(state: &State, value: &Value, name: &str, arguments: &mut Arguments) -> Result<Value, Error> {
    let mut visits = Visits::new(state);
    match name {
        "count" | "index" => {
            let wanted = arguments.required("value")?;
            let mut found = Vec::new();
            for (i, item) in items(state, value)?.iter().enumerate() {
                if values::equal(item, &wanted, &mut visits)? {
                    found.push(i);
                }
            }
            match (name, found.first()) {
                ("count", _) => Ok(Value::from(found.len())),
                (_, Some(first)) => Ok(Value::from(*first)),
                _ => Err(failed("a value that is not in the list")),
            }
        }
        "copy" => Ok(Value::from(items(state, value)?)),
        _ => Err(refused(name)),
    }
}
