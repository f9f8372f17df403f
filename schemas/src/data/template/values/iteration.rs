//! What Python goes through when it goes through a value.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::kinds::type_name;
use super::objects::Generator;
use crate::data::template::fault::failed;

/// The longest list that one operation makes.
pub(crate) const MAX_ITEMS: usize = 1 << 20;

/// Counts the values that an operation visits, so that one which would visit too many ends.
pub(crate) struct Visits<'a, 'b, 'c> {
    state: &'a State<'b, 'c>,
    count: u64,
}

impl<'a, 'b, 'c> Visits<'a, 'b, 'c> {
    pub(crate) fn new(state: &'a State<'b, 'c>) -> Visits<'a, 'b, 'c> {
        Visits { state, count: 0 }
    }

    /// Accounts for one text of two that are compared.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Error> {
        visit_text(self.state, text)
    }

    /// Accounts for one value.
    pub(crate) fn one(&mut self) -> Result<(), Error> {
        self.count += 1;
        if self.count.is_multiple_of(16) { self.state.consume_fuel(16) } else { Ok(()) }
    }
}

/// Accounts for going through a text, character by character at worst; what an operation makes, the engine accounts for.
pub(crate) fn visit_text(state: &State, text: &str) -> Result<(), Error> {
    state.consume_fuel(text.len() as u64 / 16)
}

/// Accounts for a call of a filter, test or method with these arguments.
pub(crate) fn visit_call(state: &State, arguments: &[Value]) -> Result<(), Error> {
    state.consume_fuel(4)?;
    arguments.iter().filter_map(Value::as_str).try_for_each(|text| visit_text(state, text))
}

/// The values that Python would go through.
pub(crate) fn items(state: &State, value: &Value) -> Result<Vec<Value>, Error> {
    if let Some(text) = value.as_str() {
        state.consume_fuel(text.len() as u64 / 2)?;
        return Ok(text.chars().map(Value::from).collect());
    }
    if let Some(generator) = value.downcast_object_ref::<Generator>() {
        return Ok(generator.rest());
    }
    match value.kind() {
        ValueKind::Undefined => Ok(Vec::new()),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            let items: Vec<Value> = value.try_iter()?.take(MAX_ITEMS + 1).collect();
            state.consume_fuel(items.len() as u64 / 2)?;
            if items.len() > MAX_ITEMS { Err(failed(format!("more than {MAX_ITEMS} items"))) } else { Ok(items) }
        }
        _ => Err(failed(format!("'{}' object is not iterable", type_name(value)))),
    }
}

/// Something that the engine's loops go through as Python would.
pub(crate) fn iterable(state: &State, value: Value) -> Result<Value, Error> {
    let as_it_is = value.downcast_object_ref::<Generator>().is_none()
        && matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable);
    if as_it_is { Ok(value) } else { Ok(Value::from(items(state, &value)?)) }
}
