//! Values of a row by their type.

use serde_json::{Map, Value as Json};

use super::RowError;

/// The value of a field that is a text.
pub(super) fn text<'a>(row: &'a Map<String, Json>, field: &'static str) -> Result<&'a str, RowError> {
    let value = row.get(field).ok_or(RowError::Missing(field))?;
    value.as_str().ok_or(RowError::Type { field, expected: "a string" })
}

/// The same where the field may be missing.
pub(super) fn optional_text<'a>(row: &'a Map<String, Json>, field: &'static str) -> Result<Option<&'a str>, RowError> {
    if row.contains_key(field) { text(row, field).map(Some) } else { Ok(None) }
}

/// The value of a field that is a list of whole numbers.
pub(super) fn integers(row: &Map<String, Json>, field: &'static str) -> Result<Vec<i64>, RowError> {
    let wrong = RowError::Type { field, expected: "a list of whole numbers" };
    let Some(values) = row.get(field).ok_or(RowError::Missing(field))?.as_array() else { return Err(wrong) };
    values.iter().map(Json::as_i64).collect::<Option<_>>().ok_or(wrong)
}

/// Whether something is to be a target, as its `weight` says; 1 where it has none.
pub(super) fn weight(of: &Map<String, Json>) -> Result<bool, RowError> {
    match of.get("weight") {
        None | Some(Json::Null) => Ok(true),
        Some(weight) => match weight.as_f64() {
            Some(1.0) => Ok(true),
            Some(0.0) => Ok(false),
            _ => Err(RowError::Weight(weight.to_string())),
        },
    }
}
