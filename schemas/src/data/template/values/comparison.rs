//! How values compare.

use std::cmp::Ordering;

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::iteration::{Visits, items, visit_text};
use super::kinds::{is_tuple, pairs, type_name};
use super::numbers::{Number, number};
use crate::data::template::fault::failed;

/// Accounts for looking up a key, all of which is gone through.
pub(crate) fn visit_key(state: &State, key: &Value) -> Result<(), Error> {
    match key.as_str() {
        Some(text) => visit_text(state, text),
        None if key.kind() == ValueKind::Seq => equal(key, key, &mut Visits::new(state)).map(drop),
        None => Ok(()),
    }
}

/// `a == b`.
pub(crate) fn equal(a: &Value, b: &Value, visits: &mut Visits) -> Result<bool, Error> {
    visits.one()?;
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        visits.text(if a.len() == b.len() { a } else { "" })?;
        return Ok(a == b);
    }
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return Ok(match (a, b) {
            (Number::Integer(a), Number::Integer(b)) => a == b,
            (a, b) => a.float() == b.float(),
        });
    }
    match (a.kind(), b.kind()) {
        (ValueKind::Undefined, ValueKind::Undefined) | (ValueKind::None, ValueKind::None) => Ok(true),
        (ValueKind::Map, ValueKind::Map) => equal_dicts(a, b, visits),
        (ValueKind::Seq, ValueKind::Seq) if is_tuple(a) == is_tuple(b) => equal_sequences(a, b, visits),
        _ if type_name(a) != type_name(b) => Ok(false),
        _ => Err(failed(format!("comparing values of type '{}' is not supported", type_name(a)))),
    }
}

fn equal_dicts(a: &Value, b: &Value, visits: &mut Visits) -> Result<bool, Error> {
    let pairs = pairs(a);
    if Some(pairs.len()) != b.len() {
        return Ok(false);
    }
    for (key, item) in pairs {
        let other = b.as_object().and_then(|object| object.get_value(&key));
        if !other.map_or(Ok(false), |other| equal(&item, &other, visits))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn equal_sequences(a: &Value, b: &Value, visits: &mut Visits) -> Result<bool, Error> {
    if a.len() != b.len() {
        return Ok(false);
    }
    for (a, b) in a.try_iter()?.zip(b.try_iter()?) {
        if !equal(&a, &b, visits)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How `a` stands to `b`; none where one is not a number.
pub(crate) fn order(a: &Value, b: &Value, visits: &mut Visits) -> Result<Option<Ordering>, Error> {
    visits.one()?;
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        visits.text(if a.len() < b.len() { a } else { b })?;
        return Ok(Some(a.cmp(b)));
    }
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return Ok(match (a, b) {
            (Number::Integer(a), Number::Integer(b)) => Some(a.cmp(&b)),
            (a, b) => a.float().partial_cmp(&b.float()),
        });
    }
    if a.kind() == ValueKind::Seq && b.kind() == ValueKind::Seq && is_tuple(a) == is_tuple(b) {
        for (a, b) in a.try_iter()?.zip(b.try_iter()?) {
            if !equal(&a, &b, visits)? {
                return order(&a, &b, visits);
            }
        }
        return Ok(Some(a.len().cmp(&b.len())));
    }
    Err(failed(format!("'{}' and '{}' have no order", type_name(a), type_name(b))))
}

/// `item in container`.
pub(crate) fn contains(state: &State, container: &Value, item: &Value) -> Result<bool, Error> {
    if let Some(text) = container.as_str() {
        visit_text(state, text)?;
        let item = item.as_str();
        return item.map(|item| text.contains(item)).ok_or_else(|| failed("only a string can be `in` a string"));
    }
    if container.kind() == ValueKind::Map {
        visit_key(state, item)?;
        return Ok(container.as_object().is_some_and(|object| object.get_value(item).is_some()));
    }
    let mut visits = Visits::new(state);
    for candidate in items(state, container)? {
        if equal(&candidate, item, &mut visits)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `a op b` for one comparison.
pub(crate) fn compare(state: &State, a: &Value, operator: &str, b: &Value) -> Result<bool, Error> {
    let mut visits = Visits::new(state);
    match operator {
        "==" => equal(a, b, &mut visits),
        "!=" => equal(a, b, &mut visits).map(|equal| !equal),
        "in" => contains(state, b, a),
        "not in" => contains(state, b, a).map(|found| !found),
        _ => {
            let order = order(a, b, &mut visits)?;
            Ok(match operator {
                "<" => order == Some(Ordering::Less),
                "<=" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                ">" => order == Some(Ordering::Greater),
                _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            })
        }
    }
}
