//! Expressions of a template, read by Jinja2's grammar and written anew for the engine.
//!
//! Whatever the engine does unlike Python becomes a call of a filter of ours: operators, comparisons, items, methods. What
//! it does alike (`and`, `or`, `not`, conditions, names, calls, literals) stays.

use super::lexer::Token;
use super::parser::Parser;
use super::written::{Binding, Written, chain, literal, named, tuple_of};

impl Parser<'_> {
    /// One expression, or several with commas: a tuple.
    pub(crate) fn tuple(&mut self, conditions: bool) -> Result<Written, String> {
        let mut items = Vec::new();
        let mut tuple = false;
        loop {
            if self.ends_tuple() {
                break;
            }
            items.push(if conditions { self.condition()? } else { self.or()? });
            if !self.skip_operator(",") {
                break;
            }
            tuple = true;
        }
        match (items.pop(), tuple) {
            (Some(item), false) => Ok(item),
            (None, _) => Err(format!("expected an expression, found {}", self.found())),
            (Some(last), true) => {
                items.push(last);
                Ok(Written::atom(tuple_of(&items)))
            }
        }
    }

    fn ends_tuple(&self) -> bool {
        matches!(self.peek(), None | Some(Token::Operator(")" | "]" | "}" | "="))) || self.is_name("recursive")
    }

    /// A whole expression, `a if b else c` included.
    pub(crate) fn condition(&mut self) -> Result<Written, String> {
        self.nested(|parser| {
            let mut value = parser.or()?;
            while parser.skip_name("if") {
                parser.link()?;
                let test = parser.or()?.at_least(Binding::Filtered);
                let then = value.at_least(Binding::Filtered);
                let text = if parser.skip_name("else") {
                    let other = parser.condition()?.at_least(Binding::Filtered);
                    format!("{then} if {test} else {other}")
                } else {
                    format!("{then} if {test}")
                };
                value = Written::loose(text);
            }
            Ok(value)
        })
    }

    /// An expression without `if`.
    pub(crate) fn or(&mut self) -> Result<Written, String> {
        self.nested(|parser| parser.joined("or", Self::and))
    }

    fn and(&mut self) -> Result<Written, String> {
        self.joined("and", Self::not)
    }

    fn joined(&mut self, word: &str, operand: fn(&mut Self) -> Result<Written, String>) -> Result<Written, String> {
        let mut left = operand(self)?;
        let mut first = true;
        while self.skip_name(word) {
            self.link()?;
            let right = operand(self)?.at_least(Binding::Filtered);
            let before = if first { left.at_least(Binding::Filtered) } else { left.text };
            left = Written::loose(format!("{before} {word} {right}"));
            first = false;
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Written, String> {
        if self.skip_name("not") {
            self.link()?;
            let operand = self.nested(Self::not)?.at_least(Binding::Filtered);
            return Ok(Written::loose(format!("not {operand}")));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Written, String> {
        let mut operands = vec![self.sum()?];
        let mut operators = Vec::new();
        while let Some(operator) = self.comparison_operator() {
            self.link()?;
            operators.push(operator);
            operands.push(self.sum()?);
        }
        if let [operator @ ("in" | "not in")] = operators.as_slice()
            && let [item, container] = operands.as_slice()
        {
            let filter = if *operator == "in" { "_in" } else { "_not_in" };
            return Ok(Written::filtered(format!("{}({})", item.through(filter), container.text)));
        }
        Ok(chain("_compare", &operands, &operators))
    }

    fn comparison_operator(&mut self) -> Option<&'static str> {
        let operator = match self.peek()? {
            Token::Operator(operator @ ("==" | "!=" | "<" | "<=" | ">" | ">=")) => operator,
            Token::Name(name) if name == "in" => "in",
            Token::Name(name)
                if name == "not" && matches!(self.tokens.get(1), Some(Token::Name(next)) if next == "in") =>
            {
                self.next();
                "not in"
            }
            _ => return None,
        };
        self.next();
        Some(operator)
    }

    fn sum(&mut self) -> Result<Written, String> {
        self.arithmetic(&["+", "-"], Self::concatenation)
    }

    fn concatenation(&mut self) -> Result<Written, String> {
        let mut operands = vec![self.product()?];
        while self.skip_operator("~") {
            self.link()?;
            operands.push(self.product()?);
        }
        Ok(chain("_concat", &operands, &[]))
    }

    fn product(&mut self) -> Result<Written, String> {
        self.arithmetic(&["*", "/", "//", "%"], Self::power)
    }

    fn power(&mut self) -> Result<Written, String> {
        self.arithmetic(&["**"], |parser| parser.unary(true))
    }

    fn arithmetic(
        &mut self,
        known: &[&str],
        operand: fn(&mut Self) -> Result<Written, String>,
    ) -> Result<Written, String> {
        let mut operands = vec![operand(self)?];
        let mut operators = Vec::new();
        while let Some(Token::Operator(operator)) =
            self.peek().filter(|token| matches!(token, Token::Operator(operator) if known.contains(operator)))
        {
            self.next();
            self.link()?;
            operators.push(*operator);
            operands.push(operand(self)?);
        }
        Ok(chain("_arithmetic", &operands, &operators))
    }

    fn unary(&mut self, filters: bool) -> Result<Written, String> {
        let sign = ["-", "+"].into_iter().find(|sign| self.is_operator(sign));
        let mut value = match sign {
            Some(sign) => {
                self.next();
                self.link()?;
                let operand = self.nested(|parser| parser.unary(false))?;
                Written::filtered(operand.through(if sign == "-" { "_negative" } else { "_positive" }))
            }
            None => self.primary()?,
        };
        value = self.postfix(value)?;
        if filters { self.filters(value) } else { Ok(value) }
    }

    /// A name, a literal, or something in brackets.
    pub(crate) fn primary(&mut self) -> Result<Written, String> {
        match self.next() {
            Some(Token::Name(name)) => named(name),
            Some(Token::Text(text)) => {
                let mut whole = text.clone();
                while let Some(Token::Text(more)) = self.peek() {
                    self.next();
                    whole.push_str(more);
                }
                Ok(Written::atom(literal(&whole)))
            }
            Some(Token::Integer(number)) => Ok(Written::filtered(number.to_string())),
            Some(Token::Float(number)) if number.is_finite() => Ok(Written::filtered(format!("{number:?}"))),
            Some(Token::Operator("(")) => self.nested(Self::bracketed),
            Some(Token::Operator("[")) => self.nested(Self::list),
            Some(Token::Operator("{")) => self.nested(Self::dict),
            Some(Token::Operator(operator)) => Err(format!("unexpected `{operator}`")),
            Some(Token::Float(_)) => Err("a number that is too large".into()),
            None => Err("expected an expression, found the end of the tag".into()),
        }
    }

    fn bracketed(&mut self) -> Result<Written, String> {
        if self.skip_operator(")") {
            return Ok(Written::atom("()".into()));
        }
        let inner = self.tuple(true)?;
        self.expect_operator(")")?;
        Ok(inner)
    }

    fn list(&mut self) -> Result<Written, String> {
        let mut items = Vec::new();
        while !self.skip_operator("]") {
            items.push(self.condition()?.text);
            if !self.is_operator("]") {
                self.expect_operator(",")?;
            }
        }
        Ok(Written::atom(format!("[{}]", items.join(", "))))
    }

    fn dict(&mut self) -> Result<Written, String> {
        let mut items = Vec::new();
        while !self.skip_operator("}") {
            let key = self.condition()?;
            self.expect_operator(":")?;
            let value = self.condition()?;
            items.push(format!("{}: {}", key.at_least(Binding::Filtered), value.at_least(Binding::Filtered)));
            if !self.is_operator("}") {
                self.expect_operator(",")?;
            }
        }
        Ok(Written::atom(format!("{{{}}}", items.join(", "))))
    }
}
