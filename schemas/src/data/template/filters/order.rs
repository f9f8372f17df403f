//! Filters that sort, group and find extremes.

use std::cmp::Ordering;

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, State, Value};

use super::attribute::{Path, attribute, folded, looked_up};
use crate::data::template::arguments::Arguments;
use crate::data::template::fault::failed;
use crate::data::template::values::{self, Group, Visits, items, pairs};

/// `min` and `max`: the first value that all others stand on this side of.
pub(crate) fn extreme(
    state: &mut State,
    value: &Value,
    arguments: &mut Arguments,
    wanted: Ordering,
) -> Result<Value, Error> {
    let case_sensitive = arguments.truth("case_sensitive");
    let path = attribute(arguments);
    let mut visits = Visits::new(state);
    let mut best: Option<(Value, Value)> = None;
    for item in items(state, value)? {
        let key = folded(looked_up(state, path.as_ref(), &item)?, case_sensitive);
        let better = match &best {
            Some((known, _)) => values::order(&key, known, &mut visits)? == Some(wanted),
            None => true,
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map(|(_, item)| item).unwrap_or_default())
}

/// Sorts by keys and keeps the order of what is equal.
fn sorted(state: &State, keyed: Vec<(Value, Value)>, reverse: bool) -> Result<Vec<(Value, Value)>, Error> {
    let mut visits = Visits::new(state);
    let mut fault = None;
    let mut keyed = keyed;
    keyed.sort_by(|(a, _), (b, _)| {
        let order = if fault.is_some() { Ok(None) } else { values::order(a, b, &mut visits) };
        let order = order.unwrap_or_else(|error| {
            fault = Some(error);
            None
        });
        let order = order.unwrap_or(Ordering::Equal);
        if reverse { order.reverse() } else { order }
    });
    fault.map_or(Ok(keyed), Err)
}

pub(crate) fn sort(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let (reverse, case_sensitive) = (arguments.truth("reverse"), arguments.truth("case_sensitive"));
    let attributes = arguments.optional("attribute").filter(|attribute| !attribute.is_none());
    let paths: Vec<Path> = match attributes.as_ref().map(|attributes| (attributes, attributes.as_str())) {
        Some((_, Some(names))) => names.split(',').map(|name| Path::new(&Value::from(name), None)).collect(),
        Some((attribute, None)) => vec![Path::new(attribute, None)],
        None => Vec::new(),
    };
    let mut keyed = Vec::new();
    for item in items(state, value)? {
        let key = match paths.as_slice() {
            [] => folded(item.clone(), case_sensitive),
            paths => {
                let keys: Result<Vec<Value>, Error> =
                    paths.iter().map(|path| Ok(folded(path.get(state, &item)?, case_sensitive))).collect();
                Value::from(keys?)
            }
        };
        keyed.push((key, item));
    }
    Ok(sorted(state, keyed, reverse)?.into_iter().map(|(_, item)| item).collect())
}

pub(crate) fn dictsort(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let case_sensitive = arguments.truth("case_sensitive");
    let by = arguments.optional("by").map_or_else(|| "key".to_owned(), |by| by.to_string());
    let reverse = arguments.truth("reverse");
    if value.kind() != ValueKind::Map || values::is_no_dict(value) {
        return Err(failed(format!("`dictsort` takes a dict, not '{}'", values::type_name(value))));
    }
    let mut keyed = Vec::new();
    for (key, item) in pairs(value) {
        let by = match by.as_str() {
            "key" => key.clone(),
            "value" => item.clone(),
            _ => return Err(failed("you can only sort by either \"key\" or \"value\"")),
        };
        keyed.push((folded(by, case_sensitive), Value::from(Tuple::from([key, item]))));
    }
    Ok(sorted(state, keyed, reverse)?.into_iter().map(|(_, item)| item).collect())
}

pub(crate) fn groupby(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let attribute = arguments.required("attribute")?;
    let path = Path::new(&attribute, arguments.optional("default"));
    let case_sensitive = arguments.truth("case_sensitive");
    let mut keyed = Vec::new();
    for item in items(state, value)? {
        keyed.push((folded(path.get(state, &item)?, case_sensitive), item));
    }
    let mut visits = Visits::new(state);
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, item) in sorted(state, keyed, false)? {
        match groups.last_mut() {
            Some((last, members)) if values::equal(last, &key, &mut visits)? => members.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let mut out = Vec::new();
    for (key, members) in groups {
        let key = match members.first() {
            Some(first) if !case_sensitive => path.get(state, first)?,
            _ => key,
        };
        out.push(Value::from_object(Group { key, members: Value::from(members) }));
    }
    Ok(Value::from(out))
}
