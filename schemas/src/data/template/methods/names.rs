//! The names of the methods of Python's strings, lists and dicts.

use minijinja::Value;
use minijinja::value::ValueKind;

use crate::data::template::values;

const OF_STRINGS: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];

const OF_LISTS: [&str; 11] =
    ["append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"];

const OF_TUPLES: [&str; 2] = ["count", "index"];

const OF_DICTS: [&str; 11] =
    ["clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"];

/// Whether an attribute of this name may be a method, or one that a template may not see.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with("__") || [&OF_STRINGS[..], &OF_LISTS, &OF_DICTS].iter().any(|names| names.contains(&name))
}

/// The methods that a value has.
pub(crate) fn names(value: &Value) -> &'static [&'static str] {
    match value.kind() {
        ValueKind::String => &OF_STRINGS,
        ValueKind::Map if !values::is_no_dict(value) => &OF_DICTS,
        ValueKind::Seq if value.is_tuple() => &OF_TUPLES,
        ValueKind::Seq if values::is_list(value) => &OF_LISTS,
        _ => &[],
    }
}
