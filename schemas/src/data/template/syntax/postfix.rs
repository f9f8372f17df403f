//! What follows an expression: attributes, items, calls, filters and tests.

use std::fmt::Write;

use super::lexer::Token;
use super::parser::Parser;
use super::written::{Binding, Written, called, literal};
use crate::data::template::methods;

impl Parser<'_> {
    /// Attributes, items and calls after an expression.
    pub(crate) fn postfix(&mut self, mut value: Written) -> Result<Written, String> {
        loop {
            value = if self.skip_operator(".") {
                self.attribute(&value)?
            } else if self.skip_operator("[") {
                self.nested(|parser| parser.item(&value))?
            } else if self.skip_operator("(") {
                self.call(&value)?
            } else {
                return Ok(value);
            };
            self.link()?;
        }
    }

    fn attribute(&mut self, value: &Written) -> Result<Written, String> {
        let name = match self.next() {
            Some(Token::Name(name)) => name,
            Some(Token::Integer(index)) => {
                return Ok(Written::filtered(format!("{}({index})", value.through("_item"))));
            }
            _ => return Err("expected a name after `.`".into()),
        };
        if self.skip_operator("(") {
            let arguments = self.nested(Self::arguments)?;
            let comma = if arguments.is_empty() { "" } else { ", " };
            return Ok(Written::filtered(format!("{}({}{comma}{arguments})", value.through("_method"), literal(name))));
        }
        if methods::is_name(name) {
            return Ok(Written::filtered(format!("{}({})", value.through("_attribute"), literal(name))));
        }
        Ok(Written::atom(format!("{}.{name}", value.at_least(Binding::Atom))))
    }

    fn item(&mut self, value: &Written) -> Result<Written, String> {
        if let [Token::Text(key), Token::Operator("]"), ..] = self.tokens
            && !methods::is_name(key)
        {
            self.next();
            self.next();
            return Ok(Written::atom(format!("{}[{}]", value.at_least(Binding::Atom), literal(key))));
        }
        let mut parts = vec![self.slice_part()?];
        while self.skip_operator(":") {
            parts.push(self.slice_part()?);
        }
        let written = match parts.as_slice() {
            [Some(index)] => format!("{}({index})", value.through("_item")),
            [_, _] | [_, _, _] => {
                let parts: Vec<String> = parts.into_iter().map(|part| part.unwrap_or_else(|| "none".into())).collect();
                format!("{}({})", value.through("_slice"), parts.join(", "))
            }
            _ => return Err("expected an index in `[ ]`".into()),
        };
        self.expect_operator("]")?;
        Ok(Written::filtered(written))
    }

    fn slice_part(&mut self) -> Result<Option<String>, String> {
        if self.is_operator(":") || self.is_operator("]") { Ok(None) } else { Ok(Some(self.condition()?.text)) }
    }

    /// `value(…)`, of which the first bracket is taken.
    fn call(&mut self, value: &Written) -> Result<Written, String> {
        let has_defaults = value.name.as_deref().is_some_and(|name| self.has_defaults(name));
        let arguments = self.nested(|parser| parser.arguments_through(has_defaults.then_some("_passed")))?;
        Ok(called(value, &arguments))
    }

    /// Arguments of a call up to its bracket, which is taken.
    fn arguments(&mut self) -> Result<String, String> {
        self.arguments_through(None)
    }

    /// Arguments of a call, each through a filter if there is one.
    fn arguments_through(&mut self, filter: Option<&str>) -> Result<String, String> {
        let argument = |written: Written| match filter {
            Some(filter) => written.through(filter),
            None => written.at_least(Binding::Filtered),
        };
        let mut arguments = Vec::new();
        while !self.skip_operator(")") {
            let written = if self.skip_operator("**") {
                format!("**{}", self.condition()?.at_least(Binding::Filtered))
            } else if self.skip_operator("*") {
                format!("*{}", self.condition()?.through("_iterate"))
            } else if let [Token::Name(name), Token::Operator("="), ..] = self.tokens {
                self.next();
                self.next();
                format!("{name}={}", argument(self.condition()?))
            } else {
                argument(self.condition()?)
            };
            arguments.push(written);
            if !self.is_operator(")") {
                self.expect_operator(",")?;
            }
        }
        Ok(arguments.join(", "))
    }

    /// Filters, tests and calls after an expression.
    pub(crate) fn filters(&mut self, mut value: Written) -> Result<Written, String> {
        loop {
            value = if self.skip_operator("|") {
                let filter = self.filter()?;
                Written::filtered(value.through(&filter))
            } else if self.skip_name("is") {
                self.test(&value)?
            } else if self.skip_operator("(") {
                self.call(&value)?
            } else {
                return Ok(value);
            };
            self.link()?;
        }
    }

    /// The name of a filter with its arguments, as ours is called.
    pub(crate) fn filter(&mut self) -> Result<String, String> {
        let name = self.dotted()?;
        let mut written = format!("f_{name}");
        if self.skip_operator("(") {
            let arguments = self.nested(Self::arguments)?;
            write!(written, "({arguments})").map_err(|error| error.to_string())?;
        }
        Ok(written)
    }

    fn dotted(&mut self) -> Result<String, String> {
        let mut name = self.name()?.to_owned();
        while self.skip_operator(".") {
            name.push('.');
            name.push_str(self.name()?);
        }
        if name.contains('.') { Err(format!("no filter or test named `{name}`")) } else { Ok(name) }
    }

    fn test(&mut self, value: &Written) -> Result<Written, String> {
        let not = if self.skip_name("not") { "not " } else { "" };
        let name = self.dotted()?;
        let arguments = if self.skip_operator("(") {
            self.nested(Self::arguments)?
        } else if self.begins_argument() {
            let argument = self.nested(Self::primary)?;
            self.postfix(argument)?.at_least(Binding::Filtered)
        } else {
            String::new()
        };
        if self.is_name("is") {
            return Err("tests cannot be chained with `is`".into());
        }
        let call = if arguments.is_empty() { String::new() } else { format!("({arguments})") };
        Ok(Written::loose(format!("{} is {not}t_{name}{call}", value.at_least(Binding::Filtered))))
    }

    fn begins_argument(&self) -> bool {
        match self.peek() {
            Some(Token::Name(name)) => {
                !matches!(name.as_str(), "else" | "or" | "and" | "is" | "if" | "in" | "not" | "recursive")
            }
            Some(Token::Operator(operator)) => matches!(*operator, "(" | "[" | "{"),
            Some(Token::Text(_) | Token::Integer(_) | Token::Float(_)) => true,
            None => false,
        }
    }
}
