//! JSON in two forms: the canonical one that digests are made of, and the one that people read and diff.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value as Json;
use serde_json::ser::{Formatter, PrettyFormatter};

use crate::digest::Digest;

/// Digest of a value's canonical form: UTF-8, no white space, keys sorted by their bytes.
pub fn digest(value: &Json) -> Digest {
    let mut text = String::new();
    write_canonical(value, &mut text);
    Digest::of(text.as_bytes())
}

fn write_canonical(value: &Json, out: &mut String) {
    match value {
        Json::Object(fields) => {
            // Sorted here, as serde_json keeps the order of insertion where some dependency asks it to.
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort_unstable();
            write_list(out, '{', '}', keys, |key, out| {
                out.push_str(&Json::String(key.clone()).to_string());
                out.push(':');
                write_canonical(&fields[key], out);
            });
        }
        Json::Array(items) => write_list(out, '[', ']', items, write_canonical),
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn write_list<T>(
    out: &mut String,
    open: char,
    close: char,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(T, &mut String),
) {
    out.push(open);
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(close);
}

/// A value as JSON for people: indented, but each object in a list on one line, so that a row of a table is a line of a
/// diff. Ends with a line break.
pub fn to_text<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let mut out = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Rows::default()))?;
    out.push(b'\n');
    String::from_utf8(out).map_err(serde::ser::Error::custom)
}

/// Pretty-prints, but keeps what lies inside an object in a list on that object's line.
#[derive(Default)]
struct Rows {
    pretty: PrettyFormatter<'static>,
    /// For each open container, whether it is a list.
    lists: Vec<bool>,
    /// How many containers were open where the current row began.
    row: Option<usize>,
}

impl Rows {
    fn open(&mut self, list: bool) {
        if !list && self.row.is_none() && self.lists.last() == Some(&true) {
            self.row = Some(self.lists.len());
        }
        self.lists.push(list);
    }

    /// Closes a container; whether it stood on a row's line.
    fn close(&mut self) -> bool {
        self.lists.pop();
        let on_a_row = self.row.is_some();
        if self.row == Some(self.lists.len()) {
            self.row = None;
        }
        on_a_row
    }

    fn separate<W: ?Sized + Write>(&self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
}

impl Formatter for Rows {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(true);
        if self.row.is_some() { writer.write_all(b"[") } else { self.pretty.begin_array(writer) }
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.close() { writer.write_all(b"]") } else { self.pretty.end_array(writer) }
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if self.row.is_some() { self.separate(writer, first) } else { self.pretty.begin_array_value(writer, first) }
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.row.is_some() { Ok(()) } else { self.pretty.end_array_value(writer) }
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(false);
        if self.row.is_some() { writer.write_all(b"{") } else { self.pretty.begin_object(writer) }
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.close() { writer.write_all(b"}") } else { self.pretty.end_object(writer) }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if self.row.is_some() { self.separate(writer, first) } else { self.pretty.begin_object_key(writer, first) }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.row.is_some() { Ok(()) } else { self.pretty.end_object_value(writer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn canonical_form_does_not_depend_on_order_or_white_space() {
        let one: Json = serde_json::from_str(r#"{"b": [1, 2.5], "a": {"y": null, "x": "é\n"}}"#).unwrap();
        let other: Json = serde_json::from_str("{\"a\":{\"x\":\"\\u00e9\\n\",\"y\":null},\n\"b\":[1,2.5]}").unwrap();
        let mut text = String::new();
        write_canonical(&one, &mut text);
        assert_eq!(text, r#"{"a":{"x":"é\n","y":null},"b":[1,2.5]}"#);
        assert_eq!(digest(&one), digest(&other));
    }

    #[test]
    fn a_row_of_a_table_is_a_line() {
        let value = json!({"a": 1, "rows": [{"x": [1, 2], "y": {}}, {"x": [], "y": {"z": 1}}], "tail": ["p", "q"]});
        let expected = "{\n  \"a\": 1,\n  \"rows\": [\n    {\"x\": [1, 2], \"y\": {}},\n    {\"x\": [], \"y\": {\"z\": 1}}\n  ],\n  \
                        \"tail\": [\n    \"p\",\n    \"q\"\n  ]\n}\n";
        assert_eq!(to_text(&value).unwrap(), expected);
    }
}
