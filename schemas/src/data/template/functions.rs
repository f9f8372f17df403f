//! The functions that a template may call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::civil::DateTime;
use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value};

use super::arguments::Arguments;
use super::date;
use super::fault::{Raised, failed};
use super::syntax::MARK;
use super::values::{self, Range, Text};

/// The variable that says between which characters `{% generation %}` writes.
pub(super) const BETWEEN: &str = "_frostline_between";

/// Functions of Jinja2 that no chat template needs.
const UNSUPPORTED: [&str; 3] = ["cycler", "joiner", "lipsum"];

/// Adds the functions. `now` is what `strftime_now` tells; `asked` becomes true when it is called.
pub(super) fn add_functions(environment: &mut Environment, now: DateTime, asked: Arc<AtomicBool>) {
    environment.add_function("raise_exception", |state: &mut State, message: &Value| {
        let message = values::string(state, message)?;
        Err::<Value, Error>(failed(message.clone()).with_source(Raised(message)))
    });
    environment.add_function("strftime_now", move |state: &mut State, format: &str| {
        asked.store(true, Ordering::Relaxed);
        state.consume_fuel(format.len() as u64)?;
        if format.len() > date::MAX_FORMAT {
            return Err(failed(format!("strftime_now does not take a format of more than {} bytes", date::MAX_FORMAT)));
        }
        date::strftime(format, now).ok_or_else(|| failed(format!("strftime_now does not know the format `{format}`")))
    });
    environment.add_function("range", |arguments: Rest<ValueOrKwargs>| {
        let bounds: Option<Vec<i64>> = arguments.into_values().iter().map(values::integer).collect();
        let range = match bounds.ok_or_else(|| failed("range() takes whole numbers"))?.as_slice() {
            [stop] => Range::new(0, *stop, 1),
            [start, stop] => Range::new(*start, *stop, 1),
            [start, stop, step] => Range::new(*start, *stop, *step),
            _ => Err(failed("range() takes one to three whole numbers")),
        };
        range.map(Value::from_object)
    });
    environment.add_function("dict", |state: &mut State, arguments: Rest<ValueOrKwargs>| {
        dict(state, &arguments.into_values())
    });
    environment.add_function("namespace", |state: &mut State, arguments: Rest<ValueOrKwargs>| {
        let attributes = dict(state, &arguments.into_values())?;
        for (name, _) in values::pairs(&attributes) {
            if name.as_str().is_none_or(|name| name.starts_with('_')) {
                return Err(failed(format!("a namespace takes no attribute `{name}`")));
            }
        }
        minijinja::functions::namespace(Some(attributes.into()))
    });
    for name in UNSUPPORTED {
        environment.add_function(name, move |_: Rest<ValueOrKwargs>| {
            Err::<Value, Error>(failed(format!("`{name}` is not known here")))
        });
    }
    environment.add_function(MARK, |state: &mut State, arguments: Kwargs| {
        let caller: Value = arguments.get("caller")?;
        let written = caller.call(state, &[])?;
        let written = values::string(state, &written)?;
        let between = state.lookup(BETWEEN).and_then(|between| between.as_str().map(str::to_owned));
        let mut marks = between.as_deref().unwrap_or_default().chars();
        let mut text = Text::new();
        text.push(&marks.next().map(String::from).unwrap_or_default())?;
        text.push(&written)?;
        text.push(&marks.next().map(String::from).unwrap_or_default())?;
        Ok::<Value, Error>(Value::from(text.finish()))
    });
}

/// `dict(…)`: of another dict or pairs, and of names.
fn dict(state: &mut State, arguments: &[Value]) -> Result<Value, Error> {
    let mut arguments = Arguments::new(arguments);
    let mut entries = Vec::new();
    if let Some(first) = arguments.rest().into_iter().next() {
        if first.kind() == ValueKind::Map {
            entries.extend(values::pairs(&first));
        } else {
            for pair in values::items(state, &first)? {
                match values::items(state, &pair)?.as_slice() {
                    [key, value] => entries.push((key.clone(), value.clone())),
                    _ => return Err(failed("dict() takes pairs")),
                }
            }
        }
    }
    entries.extend(arguments.rest_named().into_iter().map(|(name, value)| (Value::from(name), value)));
    Ok(Value::from_pairs(entries))
}
