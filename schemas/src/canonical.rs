//! JSON in two forms: the canonical one that digests are made of, and the one that people read and diff.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value as Json;
use serde_json::ser::{Formatter, PrettyFormatter};

use crate::digest::{Digest, Hasher};

/// Digest of a value's canonical form by RFC 8785: UTF-8, no white space, keys sorted by UTF-16, numbers as JavaScript
/// writes them.
pub fn digest(value: &Json) -> Digest {
    let mut hasher = Hasher::default();
    match serde_json_canonicalizer::to_writer(value, &mut hasher) {
        Ok(()) => hasher.finish(),
        // A `Json` holds text keys and finite numbers alone, and a hasher takes all bytes.
        Err(error) => unreachable!("JSON without a canonical form: {error}"),
    }
}

/// A value as JSON for people: indented, but each object in a list on one line, so that a row of a table is a line of a
/// diff. Ends with a line break.
pub fn to_text<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let mut out = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, RowFormatter::default()))?;
    out.push(b'\n');
    String::from_utf8(out).map_err(serde::ser::Error::custom)
}

/// Pretty-prints, but keeps what lies inside an object in a list on that object's line.
#[derive(Default)]
struct RowFormatter {
    pretty: PrettyFormatter<'static>,
    /// For each open container, whether it is a list.
    lists: Vec<bool>,
    /// How many containers were open where the current row began.
    row: Option<usize>,
}

impl RowFormatter {
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

impl Formatter for RowFormatter {
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
        assert_eq!(digest(&one), digest(&other));
    }

    /// `tests/canonical.json` is what `tests/canonical.py` has computed.
    #[test]
    fn digests_are_those_that_another_language_computes() {
        #[derive(serde::Deserialize)]
        struct Case {
            value: Json,
            digest: Digest,
        }
        let cases: Vec<Case> = serde_json::from_str(include_str!("../tests/canonical.json")).unwrap();
        assert!(cases.len() > 3);
        for case in cases {
            assert_eq!(digest(&case.value), case.digest, "{}", case.value);
        }
    }

    #[test]
    fn a_row_of_a_table_is_a_line() {
        let value = json!({"a": 1, "rows": [{"x": [1, 2], "y": {}}, {"x": [], "y": {"z": 1}}], "tail": ["p", "q"]});
        let expected = "{\n  \"a\": 1,\n  \"rows\": [\n    {\"x\": [1, 2], \"y\": {}},\n    {\"x\": [], \"y\": {\"z\": 1}}\n  ],\n  \
                        \"tail\": [\n    \"p\",\n    \"q\"\n  ]\n}\n";
        assert_eq!(to_text(&value).unwrap(), expected);
    }
}
