//! The tokens of one tag, taken one after another.

use std::collections::BTreeSet;

use super::lexer::Token;

/// How deep brackets may nest.
const MAX_DEPTH: usize = 40;

/// How many operators, filters, calls and items may follow one another.
const MAX_CHAIN: usize = 400;

/// Reads the tokens of one tag.
pub(crate) struct Parser<'a> {
    pub(crate) tokens: &'a [Token],
    /// The names of the macros that have defaults.
    macros: &'a BTreeSet<String>,
    depth: usize,
    chain: usize,
}

impl<'a> Parser<'a> {
    /// `macros` are the names of the macros that have defaults.
    pub(crate) fn new(tokens: &'a [Token], macros: &'a BTreeSet<String>) -> Parser<'a> {
        Parser { tokens, macros, depth: 0, chain: 0 }
    }

    /// The next token, which stays.
    pub(crate) fn peek(&self) -> Option<&'a Token> {
        self.tokens.first()
    }

    /// Takes the next token.
    pub(crate) fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    /// Whether this operator is next.
    pub(crate) fn is_operator(&self, operator: &str) -> bool {
        matches!(self.peek(), Some(Token::Operator(found)) if *found == operator)
    }

    /// Whether this name is next.
    pub(crate) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(found)) if found == name)
    }

    /// Takes this operator, if it is next.
    pub(crate) fn skip_operator(&mut self, operator: &str) -> bool {
        let found = self.is_operator(operator);
        if found {
            self.next();
        }
        found
    }

    /// Takes this name, if it is next.
    pub(crate) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        if found {
            self.next();
        }
        found
    }

    /// Takes this operator, or says what stands in its place.
    pub(crate) fn expect_operator(&mut self, operator: &str) -> Result<(), String> {
        if self.skip_operator(operator) {
            Ok(())
        } else {
            Err(format!("expected `{operator}`, found {}", self.found()))
        }
    }

    /// Takes a name, or says what stands in its place.
    pub(crate) fn name(&mut self) -> Result<&'a str, String> {
        match self.peek() {
            Some(Token::Name(name)) => {
                self.next();
                Ok(name)
            }
            _ => Err(format!("expected a name, found {}", self.found())),
        }
    }

    /// An error unless all tokens are taken.
    pub(crate) fn end(&self) -> Result<(), String> {
        if self.tokens.is_empty() {
            Ok(())
        } else {
            Err(format!("expected the end of the tag, found {}", self.found()))
        }
    }

    /// The next token, for messages.
    pub(crate) fn found(&self) -> String {
        match self.peek() {
            None => "the end of the tag".into(),
            Some(Token::Name(name)) => format!("`{name}`"),
            Some(Token::Operator(operator)) => format!("`{operator}`"),
            Some(Token::Text(_)) => "a string".into(),
            Some(Token::Integer(_) | Token::Float(_)) => "a number".into(),
        }
    }

    /// Whether a macro of this name has defaults.
    pub(crate) fn has_defaults(&self, name: &str) -> bool {
        self.macros.contains(name)
    }

    /// Counts one more operator, filter, call or item.
    pub(crate) fn link(&mut self) -> Result<(), String> {
        self.chain += 1;
        if self.chain > MAX_CHAIN { Err(format!("a tag has more than {MAX_CHAIN} operators")) } else { Ok(()) }
    }

    /// Reads something in brackets, or as deep.
    pub(crate) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.depth >= MAX_DEPTH {
            return Err(format!("an expression is nested more than {MAX_DEPTH} deep"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }
}
