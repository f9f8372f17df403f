//! Attributes that filters look up: of each value, by a path such as `function.name`.

use minijinja::{Error, State, Value};

use crate::data::template::arguments::Arguments;
use crate::data::template::{lookup, methods, values};

pub(crate) fn attr(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let name = arguments.text("name")?;
    if methods::is_name(&name) {
        return lookup::attribute(value, &name);
    }
    // Only what Python calls an attribute, never an item.
    if values::is_no_dict(value) { lookup::item(state, value, &Value::from(name)) } else { Ok(Value::UNDEFINED) }
}

/// An attribute such as `function.name` or 0, as the filters that take one look it up.
pub(crate) struct Path {
    parts: Vec<Value>,
    default: Option<Value>,
}

impl Path {
    /// Of a name, a path of names and indices, or an index; the default stands for what a part does not find.
    pub(crate) fn new(attribute: &Value, default: Option<Value>) -> Path {
        let parts = match attribute.as_str() {
            Some(text) => text
                .split('.')
                .map(|part| part.parse::<u32>().map_or_else(|_| Value::from(part), Value::from))
                .collect(),
            None => vec![attribute.clone()],
        };
        Path { parts, default: default.filter(|default| !default.is_none()) }
    }

    /// What the path leads to from a value.
    pub(crate) fn get(&self, state: &State, value: &Value) -> Result<Value, Error> {
        self.parts.iter().try_fold(value.clone(), |value, part| {
            let found = lookup::item(state, &value, part)?;
            Ok(if found.is_undefined() { self.default.clone().unwrap_or(found) } else { found })
        })
    }
}

/// What the argument `attribute` finds in each value, or the value itself.
pub(crate) fn attribute(arguments: &mut Arguments) -> Option<Path> {
    arguments
        .optional("attribute")
        .filter(|attribute| !attribute.is_none())
        .map(|attribute| Path::new(&attribute, None))
}

/// What a path leads to from a value, or the value itself.
pub(crate) fn looked_up(state: &State, path: Option<&Path>, value: &Value) -> Result<Value, Error> {
    path.map_or_else(|| Ok(value.clone()), |path| path.get(state, value))
}

/// A value as it counts for sorting where case does not.
pub(crate) fn folded(value: Value, case_sensitive: bool) -> Value {
    match value.as_str() {
        Some(text) if !case_sensitive => Value::from(text.to_lowercase()),
        _ => value,
    }
}
