//! Jinja2's filters, on Python's values. A function is the filter of its name, unless it says otherwise.

mod attribute;
mod numbers;
mod order;
mod sequences;
mod texts;

use minijinja::{Error, State, Value};

use self::attribute::attr;
use self::numbers::{abs, float, int, round};
use self::order::{dictsort, extreme, groupby, sort};
use self::sequences::{batch, choose, entries, first, join, last, length, map, reverse, slice, sum, unique};
use self::texts::{cased, center, escape, format, indent, replace, title, trim, truncate, wordcount};
use super::arguments::Arguments;
use super::fault::failed;
use super::json;
use super::values::{self, items, visit_call};

/// A filter: the value, then its arguments.
pub(super) type Filter = fn(&mut State, &Value, &mut Arguments) -> Result<Value, Error>;

/// Every filter by its name.
pub(super) const ALL: [(&str, Filter); 49] = [
    ("abs", abs),
    ("attr", attr),
    ("batch", batch),
    ("capitalize", |state, value, _| cased(state, value, "capitalize")),
    ("center", center),
    ("count", length),
    ("d", default),
    ("default", default),
    ("dictsort", dictsort),
    ("e", escape),
    ("escape", escape),
    ("first", first),
    ("float", float),
    ("forceescape", escape),
    ("format", format),
    ("groupby", groupby),
    ("indent", indent),
    ("int", int),
    ("items", entries),
    ("join", join),
    ("last", last),
    ("length", length),
    ("list", |state, value, _| items(state, value).map(Value::from)),
    ("lower", |state, value, _| cased(state, value, "lower")),
    ("map", map),
    ("max", |state, value, arguments| extreme(state, value, arguments, std::cmp::Ordering::Greater)),
    ("min", |state, value, arguments| extreme(state, value, arguments, std::cmp::Ordering::Less)),
    ("reject", |state, value, arguments| choose(state, value, arguments, false, false)),
    ("rejectattr", |state, value, arguments| choose(state, value, arguments, true, false)),
    ("replace", replace),
    ("reverse", reverse),
    ("round", round),
    ("safe", |state, value, _| values::string(state, value).map(Value::from)),
    ("select", |state, value, arguments| choose(state, value, arguments, false, true)),
    ("selectattr", |state, value, arguments| choose(state, value, arguments, true, true)),
    ("slice", slice),
    ("sort", sort),
    ("string", |state, value, _| values::string(state, value).map(Value::from)),
    ("sum", sum),
    ("title", title),
    ("tojson", json::filter),
    ("trim", trim),
    ("truncate", truncate),
    ("unique", unique),
    ("upper", |state, value, _| cased(state, value, "upper")),
    ("wordcount", wordcount),
    ("wordwrap", |_, _, _| Err(failed("the filter `wordwrap` is not supported"))),
    ("pprint", |_, _, _| Err(failed("the filter `pprint` is not supported"))),
    ("urlencode", |_, _, _| Err(failed("the filter `urlencode` is not supported"))),
];

/// Applies a filter to a value.
pub(super) fn apply(state: &mut State, filter: Filter, arguments: &[Value]) -> Result<Value, Error> {
    let (value, rest) = arguments.split_first().ok_or_else(|| failed("a filter without a value"))?;
    visit_call(state, arguments)?;
    let mut rest = Arguments::new(rest);
    let result = filter(state, value, &mut rest)?;
    rest.finish()?;
    Ok(result)
}

fn default(_: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let default = arguments.optional("default_value").unwrap_or_else(|| Value::from(""));
    let falsy = arguments.truth("boolean") && !value.is_true();
    Ok(if value.is_undefined() || falsy { default } else { value.clone() })
}
