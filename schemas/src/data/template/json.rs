//! `tojson` as transformers gives it to templates: Python's `json.dumps`.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::arguments::Arguments;
use super::fault::failed;
use super::values::{self, MAX_TEXT, Number, Text, pairs};

/// The filter `tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)`.
pub(super) fn filter(state: &mut State, value: &Value, arguments: &mut Arguments) -> Result<Value, Error> {
    let ensure_ascii = arguments.truth("ensure_ascii");
    let indent = arguments
        .optional("indent")
        .filter(|indent| !indent.is_none())
        .map(|indent| indentation(&indent))
        .transpose()?;
    let separators = arguments.optional("separators").filter(|separators| !separators.is_none());
    let sort_keys = arguments.truth("sort_keys");
    let (item, key) = match separators {
        Some(separators) => separator_texts(state, &separators)?,
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let mut writer = Writer { out: Text::new(), ensure_ascii, indent, item, key, sort_keys };
    writer.value(value, 0)?;
    let text = writer.out.finish();
    state.consume_fuel(text.len() as u64 / 8)?;
    Ok(Value::from(text))
}

fn indentation(indent: &Value) -> Result<String, Error> {
    if let Some(text) = indent.as_str() {
        return Ok(text.to_owned());
    }
    let width = values::integer(indent).ok_or_else(|| failed("`indent` must be a whole number or a string"))?;
    let width = usize::try_from(width).unwrap_or(0);
    if width > MAX_TEXT / 1024 { Err(failed("an indent that is too wide")) } else { Ok(" ".repeat(width)) }
}

fn separator_texts(state: &State, separators: &Value) -> Result<(String, String), Error> {
    let texts = values::items(state, separators)?;
    match texts.as_slice() {
        [item, key] => match (item.as_str(), key.as_str()) {
            (Some(item), Some(key)) => Ok((item.to_owned(), key.to_owned())),
            _ => Err(failed("`separators` must be two strings")),
        },
        _ => Err(failed("`separators` must be two strings")),
    }
}

struct Writer {
    out: Text,
    ensure_ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq if values::is_list(value) => self.list(value, depth),
            ValueKind::Map if !values::is_no_dict(value) => self.dict(value, depth),
            ValueKind::None | ValueKind::Bool | ValueKind::Number => self.out.push(&scalar(value)),
            _ => Err(failed(format!("Object of type {} is not JSON serializable", values::type_name(value)))),
        }
    }

    fn list(&mut self, list: &Value, depth: usize) -> Result<(), Error> {
        if list.len() == Some(0) {
            return self.out.push("[]");
        }
        self.out.push("[")?;
        for (i, item) in list.try_iter()?.enumerate() {
            self.begin_item(i, depth + 1)?;
            self.value(&item, depth + 1)?;
        }
        self.line(depth)?;
        self.out.push("]")
    }

    fn dict(&mut self, dict: &Value, depth: usize) -> Result<(), Error> {
        let mut entries = Vec::new();
        for (key, value) in pairs(dict) {
            let name = match key.kind() {
                ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
                ValueKind::None | ValueKind::Bool | ValueKind::Number => scalar(&key),
                _ => return Err(failed("keys must be str, int, float, bool or None")),
            };
            entries.push((name, key, value));
        }
        if self.sort_keys {
            sort(&mut entries)?;
        }
        if entries.is_empty() {
            return self.out.push("{}");
        }
        self.out.push("{")?;
        for (i, (name, _, value)) in entries.iter().enumerate() {
            self.begin_item(i, depth + 1)?;
            self.string(name)?;
            self.out.push(&self.key.clone())?;
            self.value(value, depth + 1)?;
        }
        self.line(depth)?;
        self.out.push("}")
    }

    fn begin_item(&mut self, i: usize, depth: usize) -> Result<(), Error> {
        if i > 0 {
            self.out.push(&self.item.clone())?;
        }
        self.line(depth)
    }

    fn line(&mut self, depth: usize) -> Result<(), Error> {
        let Some(indent) = &self.indent else { return Ok(()) };
        self.out.push("\n")?;
        (0..depth).try_for_each(|_| self.out.push(indent))
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        let mut quoted = String::with_capacity(text.len() + 2);
        quoted.push('"');
        for c in text.chars() {
            match c {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                '\x08' => quoted.push_str("\\b"),
                '\x0c' => quoted.push_str("\\f"),
                '\0'..'\x20' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
                c if self.ensure_ascii && !(' '..='~').contains(&c) => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        quoted.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => quoted.push(c),
            }
        }
        quoted.push('"');
        self.out.push(&quoted)
    }
}

/// Sorts by keys, which must be of one kind, as Python compares them before it writes them.
fn sort(entries: &mut [(String, Value, Value)]) -> Result<(), Error> {
    let strings = entries.iter().all(|(_, key, _)| key.as_str().is_some());
    let numbers = entries.iter().all(|(_, key, _)| values::number(key).is_some());
    if strings {
        entries.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    } else if numbers {
        let float = |key: &Value| values::number(key).map_or(0.0, Number::float);
        entries.sort_by(|(_, a, _), (_, b, _)| float(a).total_cmp(&float(b)));
    } else if entries.len() > 1 {
        return Err(failed("keys of several types have no order"));
    }
    Ok(())
}

fn scalar(value: &Value) -> String {
    match (value.kind(), values::number(value)) {
        (ValueKind::None, _) => "null".into(),
        (ValueKind::Bool, _) => if value.is_true() { "true" } else { "false" }.into(),
        (_, Some(Number::Float(float))) if float.is_nan() => "NaN".into(),
        (_, Some(Number::Float(float))) if float.is_infinite() => {
            if float > 0.0 { "Infinity" } else { "-Infinity" }.into()
        }
        (_, Some(Number::Float(float))) => values::float_repr(float),
        _ => value.to_string(),
    }
}
