//! What kind a value is of, in Python's words.

use minijinja::Value;
use minijinja::value::{Tuple, ValueKind};

use super::objects::{Generator, Group, View};
use super::range::Range;

/// What a value is called in Python.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Undefined => "Undefined",
        ValueKind::None => "NoneType",
        ValueKind::Bool => "bool",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float",
        ValueKind::String => "str",
        ValueKind::Map => "dict",
        ValueKind::Seq if is_tuple(value) => "tuple",
        ValueKind::Seq | ValueKind::Iterable => match value.downcast_object_ref::<View>() {
            Some(view) => view.name,
            None if value.downcast_object_ref::<Range>().is_some() => "range",
            None if value.downcast_object_ref::<Generator>().is_some() => "generator",
            None => "list",
        },
        _ => "object",
    }
}

/// Whether a value is a list or a tuple.
pub(crate) fn is_list(value: &Value) -> bool {
    value.kind() == ValueKind::Seq && value.downcast_object_ref::<Range>().is_none()
}

/// Whether a value is what `namespace` gives or a loop's `loop`, which the engine says are dicts.
pub(crate) fn is_no_dict(value: &Value) -> bool {
    is_loop(value) || value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// Whether a value is a loop's `loop`.
pub(crate) fn is_loop(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Loop"))
}

/// Whether a value is a tuple.
pub(crate) fn is_tuple(value: &Value) -> bool {
    value.is_tuple() || value.downcast_object_ref::<Group>().is_some()
}

/// Keys and values of a dict, in their order.
pub(crate) fn pairs(value: &Value) -> Vec<(Value, Value)> {
    value.as_object().and_then(|object| object.try_iter_pairs()).into_iter().flatten().collect()
}

/// A list, or a tuple.
pub(crate) fn sequence(items: Vec<Value>, tuple: bool) -> Value {
    if tuple { Value::from(Tuple::from(items)) } else { Value::from(items) }
}
