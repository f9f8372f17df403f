//! Splits a template into what it writes as it stands and its tags, as Jinja2 does with `trim_blocks` and `lstrip_blocks`.

use super::error::SyntaxError;
use super::literals::{float_length, integer_length, unescaped};
use crate::data::template::values::strings::is_space;

/// A piece of a template, in order.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece {
    /// Text that is written as it stands, white space already trimmed.
    Data(String),
    /// `{{ … }}`.
    Variable(Vec<Token>),
    /// `{% … %}`.
    Block(Vec<Token>),
}

/// A piece and the line on which it begins, from 1.
#[derive(Debug, PartialEq)]
pub(crate) struct Placed {
    pub(crate) piece: Piece,
    pub(crate) line: usize,
}

/// A token of a tag.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A name or a keyword.
    Name(String),
    /// An operator or a bracket.
    Operator(&'static str),
    /// A string, its escapes resolved.
    Text(String),
    /// A whole number, in decimal.
    Integer(u128),
    /// A number with a fraction or an exponent.
    Float(f64),
}

/// Longest first, as they are tried in this order.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",", ";",
];

/// The pieces of a template.
pub(crate) fn pieces(template: &str) -> Result<Vec<Placed>, SyntaxError> {
    let mut source = template.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer { rest: &source, last: None, line: 1, line_starting: true, pieces: Vec::new() };
    while !lexer.rest.is_empty() {
        lexer.next_piece()?;
    }
    Ok(lexer.pieces)
}

struct Lexer<'a> {
    rest: &'a str,
    /// The byte before `rest`.
    last: Option<u8>,
    line: usize,
    /// Whether what was last read ended a line.
    line_starting: bool,
    pieces: Vec<Placed>,
}

impl<'a> Lexer<'a> {
    /// Reads text up to the next tag, and the tag.
    fn next_piece(&mut self) -> Result<(), SyntaxError> {
        let Some(start) = next_tag(self.rest) else {
            let text = self.take(self.rest.len());
            self.push_data(text.to_owned());
            return Ok(());
        };
        let tag = self.rest.get(start..start + 2).unwrap_or_default();
        let sign = sign_at(self.rest, start + 2);
        let text = self.stripped(start, sign, tag == "{{");
        if tag == "{%"
            && let Some(length) = raw_begin(self.rest)
        {
            let begin = self.take(length);
            self.line_starting = begin.ends_with('\n');
            self.push_data(text);
            return self.raw();
        }
        self.take(2 + sign.map_or(0, char::len_utf8));
        self.line_starting = false;
        self.push_data(text);
        match tag {
            "{#" => self.comment(),
            "{{" => self.tag("}}"),
            _ => self.tag("%}"),
        }
    }

    /// Takes `length` bytes of text that stand before a tag, without what its sign or `lstrip_blocks` takes away.
    fn stripped(&mut self, length: usize, sign: Option<char>, variable: bool) -> String {
        let line_starting = self.line_starting;
        let text = self.take(length);
        match sign {
            Some('-') => text.trim_end_matches(is_space).to_owned(),
            None if !variable => {
                let line_start = text.rfind('\n').map_or(0, |at| at + 1);
                let (before, blank) = text.split_at(line_start);
                let whole_line = line_start > 0 || line_starting;
                if whole_line && blank.chars().all(is_space) { before.to_owned() } else { text.to_owned() }
            }
            _ => text.to_owned(),
        }
    }

    fn comment(&mut self) -> Result<(), SyntaxError> {
        let end = self.rest.find("#}").ok_or_else(|| self.error("a comment `{#` is not closed"))?;
        let before = self.take(end);
        self.take(2);
        self.after_tag(before.chars().next_back().filter(|sign| "+-".contains(*sign)), true);
        Ok(())
    }

    fn raw(&mut self) -> Result<(), SyntaxError> {
        let (start, length) = raw_end(self.rest).ok_or_else(|| self.error("`{% raw %}` is not closed"))?;
        let text = self.stripped(start, sign_at(self.rest, start + 2), false);
        self.push_data(text);
        let tag = self.take(length);
        let sign = tag.trim_end_matches("%}").chars().next_back().filter(|sign| "+-".contains(*sign));
        self.after_tag(sign, true);
        Ok(())
    }

    /// Drops the white space that the end of a tag swallows.
    fn after_tag(&mut self, sign: Option<char>, block: bool) {
        let spaces = match sign {
            Some('-') => self.rest.len() - self.rest.trim_start_matches(is_space).len(),
            None if block => usize::from(self.rest.starts_with('\n')),
            _ => 0,
        };
        let dropped = self.take(spaces);
        self.line_starting = dropped.ends_with('\n');
    }

    /// The tokens of a tag up to its end.
    fn tag(&mut self, end: &'static str) -> Result<(), SyntaxError> {
        let (line, block) = (self.line, end == "%}");
        let mut tokens = Vec::new();
        let mut brackets: Vec<&'static str> = Vec::new();
        loop {
            if brackets.is_empty()
                && let Some((sign, length)) = tag_end(self.rest, end)
            {
                self.take(length);
                self.after_tag(sign, block);
                let piece = if block { Piece::Block(tokens) } else { Piece::Variable(tokens) };
                self.pieces.push(Placed { piece, line });
                return Ok(());
            }
            let Some(first) = self.rest.chars().next() else {
                return Err(SyntaxError::new(line, format!("a tag is not closed by `{end}`")));
            };
            if is_space(first) {
                self.take(first.len_utf8());
            } else {
                let token = self.token(first)?;
                self.balance(&token, &mut brackets)?;
                tokens.push(token);
            }
        }
    }

    fn balance(&self, token: &Token, brackets: &mut Vec<&'static str>) -> Result<(), SyntaxError> {
        match token {
            Token::Operator("(") => brackets.push(")"),
            Token::Operator("[") => brackets.push("]"),
            Token::Operator("{") => brackets.push("}"),
            Token::Operator(close @ (")" | "]" | "}")) if brackets.pop() != Some(close) => {
                return Err(self.error(&format!("unexpected `{close}`")));
            }
            _ => {}
        }
        Ok(())
    }

    fn token(&mut self, first: char) -> Result<Token, SyntaxError> {
        if first.is_ascii_digit() {
            return self.number();
        }
        if first.is_alphanumeric() || first == '_' {
            let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
            let name = self.take(end).to_owned();
            let known = name.is_ascii();
            return if known {
                Ok(Token::Name(name))
            } else {
                Err(self.error(&format!("the name `{name}` is not supported: it is not ASCII")))
            };
        }
        if matches!(first, '\'' | '"') {
            return self.text(first);
        }
        let operator = OPERATORS.iter().find(|operator| self.rest.starts_with(**operator));
        let operator = operator.ok_or_else(|| self.error(&format!("unexpected character {first:?}")))?;
        self.take(operator.len());
        Ok(Token::Operator(operator))
    }

    fn text(&mut self, quote: char) -> Result<Token, SyntaxError> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|&(_, c)| {
            let closes = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        let (end, _) = end.ok_or_else(|| self.error("a string is not closed"))?;
        let line = self.line;
        let quoted = self.take(end + 1);
        let inner = quoted.get(1..end).unwrap_or_default();
        unescaped(inner)
            .map(Token::Text)
            .ok_or_else(|| SyntaxError::new(line, "a string has an escape that is not supported"))
    }

    fn number(&mut self) -> Result<Token, SyntaxError> {
        // An index after a dot has no fraction: `list.1.0`.
        let length = if self.last == Some(b'.') { None } else { float_length(self.rest) };
        if let Some(length) = length {
            let digits = self.take(length).replace('_', "");
            return digits.parse().map(Token::Float).map_err(|_| self.error("a number that cannot be read"));
        }
        let (length, radix) = integer_length(self.rest);
        let digits = self.take(length).replace('_', "");
        let digits = if radix == 10 { digits.as_str() } else { digits.get(2..).unwrap_or_default() };
        u128::from_str_radix(digits, radix).map(Token::Integer).map_err(|_| self.error("a number that is too large"))
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.line += taken.matches('\n').count();
        self.last = taken.bytes().next_back().or(self.last);
        self.rest = rest;
        taken
    }

    fn push_data(&mut self, text: String) {
        if !text.is_empty() {
            self.pieces.push(Placed { piece: Piece::Data(text), line: self.line });
        }
    }

    fn error(&self, reason: &str) -> SyntaxError {
        SyntaxError::new(self.line, reason)
    }
}

/// Where the next tag begins.
fn next_tag(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let opens = |pair: &[u8]| matches!(pair, b"{%" | b"{{" | b"{#");
    bytes.windows(2).position(opens)
}

/// `-` or `+` at a place.
fn sign_at(text: &str, at: usize) -> Option<char> {
    text.get(at..)?.chars().next().filter(|sign| "+-".contains(*sign))
}

/// The length of `{% raw %}` with the white space that it swallows, if `text` begins with one.
fn raw_begin(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("{%")?.trim_start_matches(['-', '+']);
    let signs = text.len() - inner.len() - 2;
    let after = inner.trim_start_matches(is_space).strip_prefix("raw")?.trim_start_matches(is_space);
    let rest = match after.strip_prefix("-%}") {
        Some(rest) => rest.trim_start_matches(is_space),
        None => after.strip_prefix("%}")?,
    };
    (signs <= 1).then(|| text.len() - rest.len())
}

/// Where `{% endraw %}` begins, and its length without the white space that follows.
fn raw_end(text: &str) -> Option<(usize, usize)> {
    text.match_indices("{%").find_map(|(start, open)| {
        let inner = text.get(start + open.len()..)?;
        let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
        let after = inner.trim_start_matches(is_space).strip_prefix("endraw")?.trim_start_matches(is_space);
        let rest = after.strip_prefix(['-', '+']).unwrap_or(after).strip_prefix("%}")?;
        Some((start, text.len() - start - rest.len()))
    })
}

/// The sign and the length of the end of a tag, if `text` begins with it.
fn tag_end(text: &str, end: &str) -> Option<(Option<char>, usize)> {
    if text.starts_with(end) {
        return Some((None, end.len()));
    }
    let sign = sign_at(text, 0)?;
    // `+}}` is no end: only blocks have one that keeps white space.
    let signed = sign == '-' || end == "%}";
    (signed && text.get(1..)?.starts_with(end)).then(|| (Some(sign), 1 + end.len()))
}
