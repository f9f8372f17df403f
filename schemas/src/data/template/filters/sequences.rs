//! Filters of lists and of all else that is gone through.

use minijinja::value::{Kwargs, Tuple, ValueKind};
use minijinja::{Error, State, Value};

use super::attribute::{Path, attribute, folded, looked_up};
use crate::data::template::arguments::Arguments;
use crate::data::template::fault::failed;
use crate::data::template::held::held;
use crate::data::template::values::{self, Generator, Text, Visits, items, pairs};

pub(crate) fn batch(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let size = usize::try_from(arguments.integer("linecount", 0)?).ok().filter(|size| *size > 0);
    let size = size.ok_or_else(|| failed("`linecount` must be above 0"))?;
    let fill = arguments.optional("fill_with").filter(|fill| !fill.is_none());
    let mut rows: Vec<Vec<Value>> = items(state, value)?.chunks(size).map(<[Value]>::to_vec).collect();
    if let (Some(row), Some(fill)) = (rows.last_mut(), fill) {
        if size > values::MAX_TEXT / 64 {
            return Err(failed("a list that is too long"));
        }
        row.resize(size, fill);
    }
    Ok(Generator::value(rows.into_iter().map(Value::from).collect()))
}

pub(crate) fn slice(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let slices = usize::try_from(arguments.integer("slices", 0)?).ok().filter(|slices| (1..=1 << 16).contains(slices));
    let slices = slices.ok_or_else(|| failed("`slices` must be above 0"))?;
    let fill = arguments.optional("fill_with").filter(|fill| !fill.is_none());
    let all = items(state, value)?;
    let (each, extra) = (all.len() / slices, all.len() % slices);
    let mut rest = all.as_slice();
    let mut out = Vec::new();
    for i in 0..slices {
        let (part, after) = rest.split_at(each + usize::from(i < extra));
        rest = after;
        let mut part = part.to_vec();
        part.extend(fill.clone().filter(|_| i >= extra));
        out.push(Value::from(part));
    }
    Ok(Generator::value(out))
}

pub(crate) fn first(state: &mut State, value: &Value, _: &mut Arguments) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.chars().next().map(Value::from).unwrap_or_default());
    }
    if value.downcast_object_ref::<Generator>().is_some() {
        return Ok(value.try_iter()?.next().unwrap_or_default());
    }
    Ok(items(state, value)?.into_iter().next().unwrap_or_default())
}

pub(crate) fn last(state: &mut State, value: &Value, _: &mut Arguments) -> Result<Value, Error> {
    if value.downcast_object_ref::<Generator>().is_some() {
        return Err(failed("'generator' object is not reversible"));
    }
    Ok(items(state, value)?.pop().unwrap_or_default())
}

pub(crate) fn length(_: &mut State, value: &Value, _: &mut Arguments) -> Result<Value, Error> {
    if let Some(view) = value.downcast_object_ref::<values::View>() {
        return Ok(Value::from(view.items.len()));
    }
    match value.kind() {
        ValueKind::Undefined => Ok(Value::from(0)),
        ValueKind::String => Ok(Value::from(value.as_str().unwrap_or_default().chars().count())),
        ValueKind::Seq | ValueKind::Map if !values::is_no_dict(value) => Ok(Value::from(value.len().unwrap_or(0))),
        _ => Err(failed(format!("object of type '{}' has no len()", values::type_name(value)))),
    }
}

pub(crate) fn join(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let separator = arguments.optional("d").map_or(Ok(String::new()), |separator| values::string(state, &separator))?;
    let path = attribute(arguments);
    let mut out = Text::new();
    for (i, item) in items(state, value)?.iter().enumerate() {
        state.consume_fuel(separator.len() as u64 / 64)?;
        out.push(if i > 0 { &separator } else { "" })?;
        values::write_string(state, &looked_up(state, path.as_ref(), item)?, &mut out)?;
    }
    Ok(Value::from(out.finish()))
}

pub(crate) fn map(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let mut out = Vec::new();
    if !arguments.has_places()
        && let Some(attribute) = arguments.by_name("attribute")
    {
        let path = Path::new(&attribute, arguments.by_name("default"));
        for item in items(state, value)? {
            out.push(path.get(state, &item)?);
        }
        return Ok(Generator::value(out));
    }
    let filter = format!("f_{}", arguments.text("filter")?);
    let (places, named) = (arguments.rest(), arguments.rest_named());
    let named: Kwargs = named.into_iter().collect();
    for item in items(state, value)? {
        let mut all = vec![item];
        all.extend(places.iter().cloned());
        all.push(Value::from(named.clone()));
        out.push(state.apply_filter(&filter, &all)?);
    }
    Ok(Generator::value(out))
}

/// `select`, `reject` and, by an attribute, `selectattr` and `rejectattr`.
pub(crate) fn choose(
    state: &mut State,
    value: &Value,
    arguments: &mut Arguments,
    by_attribute: bool,
    wanted: bool,
) -> Result<Value, Error> {
    let path = if by_attribute { Some(Path::new(&arguments.required("attribute")?, None)) } else { None };
    let test = if arguments.has_places() { Some(format!("t_{}", arguments.text("test")?)) } else { None };
    let places = arguments.rest();
    let mut out = Vec::new();
    for item in items(state, value)? {
        let looked_up = looked_up(state, path.as_ref(), &item)?;
        let holds = match &test {
            Some(test) => {
                let mut all = vec![looked_up];
                all.extend(places.iter().cloned());
                state.perform_test(test, &all)?
            }
            None => looked_up.is_true(),
        };
        if holds == wanted {
            out.push(item);
        }
    }
    Ok(Generator::value(out))
}

pub(crate) fn reverse(state: &mut State, value: &Value, _: &mut Arguments) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        return Ok(Value::from(text.chars().rev().collect::<String>()));
    }
    let mut all = items(state, value)?;
    all.reverse();
    Ok(Generator::value(all))
}

pub(crate) fn sum(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let path = attribute(arguments);
    let start = arguments.optional("start").unwrap_or_else(|| Value::from(0));
    if start.as_str().is_some() {
        return Err(failed("sum() can't sum strings"));
    }
    items(state, value)?.iter().try_fold(start, |sum, item| {
        held(state, values::arithmetic(state, &sum, "+", &looked_up(state, path.as_ref(), item)?)?)
    })
}

pub(crate) fn unique(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let case_sensitive = arguments.truth("case_sensitive");
    let path = attribute(arguments);
    let mut visits = Visits::new(state);
    let (mut seen, mut out): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    'items: for item in items(state, value)? {
        let key = folded(looked_up(state, path.as_ref(), &item)?, case_sensitive);
        for known in &seen {
            if values::equal(known, &key, &mut visits)? {
                continue 'items;
            }
        }
        seen.push(key);
        out.push(item);
    }
    Ok(Generator::value(out))
}

/// `items`: pairs of keys and values.
pub(crate) fn entries(_: &mut State, value: &Value, _: &mut Arguments) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(Generator::value(Vec::new())),
        ValueKind::Map if !values::is_no_dict(value) => {
            let tuple = |(key, value)| Value::from(Tuple::from([key, value]));
            Ok(Generator::value(pairs(value).into_iter().map(tuple).collect()))
        }
        _ => Err(failed("can only get item pairs from a mapping")),
    }
}
