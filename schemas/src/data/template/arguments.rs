//! Arguments of filters, tests, methods and functions, taken as Python takes them: by place or by name.

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::fault::failed;
use super::values::{integer, pairs};

/// The arguments of one call.
pub(super) struct Arguments {
    places: std::collections::VecDeque<Value>,
    named: Vec<(String, Value)>,
}

impl Arguments {
    pub(super) fn new(arguments: &[Value]) -> Arguments {
        let (named, places) = match arguments.split_last() {
            Some((last, places)) if last.is_kwargs() => (pairs(last), places),
            _ => (Vec::new(), arguments),
        };
        let named = named.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        Arguments { places: places.iter().cloned().collect(), named }
    }

    /// The next argument, which may be given by its name, too.
    pub(super) fn optional(&mut self, name: &str) -> Option<Value> {
        self.places.pop_front().or_else(|| self.by_name(name))
    }

    /// An argument that is given by name.
    pub(super) fn by_name(&mut self, name: &str) -> Option<Value> {
        let at = self.named.iter().position(|(known, _)| known == name)?;
        Some(self.named.swap_remove(at).1)
    }

    /// The next argument, which must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<Value, Error> {
        self.optional(name).ok_or_else(|| failed(format!("the argument `{name}` is missing")))
    }

    /// The next argument, which must be a string.
    pub(super) fn text(&mut self, name: &str) -> Result<String, Error> {
        let value = self.required(name)?;
        value.as_str().map(str::to_owned).ok_or_else(|| failed(format!("`{name}` must be a string")))
    }

    /// The next argument: a string, or none.
    pub(super) fn optional_text(&mut self, name: &str) -> Result<Option<String>, Error> {
        match self.optional(name) {
            None => Ok(None),
            Some(value) if value.is_none() => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(failed(format!("`{name}` must be a string"))),
            },
        }
    }

    /// The next argument: a whole number, or what stands for it where it is not given.
    pub(super) fn integer(&mut self, name: &str, default: i64) -> Result<i64, Error> {
        match self.optional(name) {
            None => Ok(default),
            Some(value) => integer(&value).ok_or_else(|| failed(format!("`{name}` must be a whole number"))),
        }
    }

    /// The next argument: a whole number, or none.
    pub(super) fn optional_integer(&mut self, name: &str) -> Result<Option<i64>, Error> {
        match self.optional(name) {
            Some(value) if value.kind() != ValueKind::None => {
                integer(&value).map(Some).ok_or_else(|| failed(format!("`{name}` must be a whole number")))
            }
            _ => Ok(None),
        }
    }

    /// The next argument as a truth.
    pub(super) fn truth(&mut self, name: &str) -> bool {
        self.optional(name).is_some_and(|value| value.is_true())
    }

    /// What is given by place and not taken yet.
    pub(super) fn rest(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.places).into()
    }

    /// What is given by name and not taken yet.
    pub(super) fn rest_named(&mut self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.named)
    }

    /// Whether something is given by place and not taken yet.
    pub(super) fn has_places(&self) -> bool {
        !self.places.is_empty()
    }

    /// An error where arguments are left over.
    pub(super) fn finish(self) -> Result<(), Error> {
        match self.named.first() {
            Some((name, _)) => Err(failed(format!("an unexpected argument `{name}`"))),
            None if self.places.is_empty() => Ok(()),
            None => Err(failed("too many arguments")),
        }
    }
}
