//! Templates as Jinja2 reads them, written anew for the engine.

mod error;
mod expression;
mod lexer;
mod literals;
mod parser;
mod postfix;
mod source;
mod targets;
mod written;

pub(super) use self::error::SyntaxError;
pub(super) use self::source::{MARK, rewrite};
