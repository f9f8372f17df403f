//! A template written anew for the engine: same tags, same lines, but with Python's meaning of expressions, with the white
//! space that Jinja2 leaves, and with `{% generation %}` as a call that marks what it writes.

use std::collections::BTreeSet;

use super::error::SyntaxError;
use super::lexer::{self, Piece, Token};
use super::parser::Parser;
use super::targets::{parameters, target, with_values};
use super::written::{check_name, literal};

/// The longest template read, in bytes; the longest in use have 20 thousand.
const MAX_LENGTH: usize = 1 << 19;

/// How deep tags may nest.
const MAX_DEPTH: usize = 40;

/// How many `{% elif %}` one `{% if %}` may have.
const MAX_BRANCHES: usize = 100;

/// The function that `{% generation %}` calls.
pub(crate) const MARK: &str = "_frostline_mark";

/// A template as the engine reads it.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) text: String,
    /// Whether it has `{% generation %}`.
    pub(crate) marked: bool,
    /// Whether a `{% generation %}` stands where what it writes is not the output yet: in a macro or a `{% set %}`.
    pub(crate) captured: bool,
}

/// Writes a template anew.
pub(crate) fn rewrite(template: &str) -> Result<Source, SyntaxError> {
    if template.len() > MAX_LENGTH {
        return Err(SyntaxError::new(1, format!("the template is longer than {MAX_LENGTH} bytes")));
    }
    let pieces = lexer::pieces(template)?;
    let macros = pieces.iter().filter_map(|placed| macro_with_defaults(&placed.piece)).map(str::to_owned).collect();
    let mut writer = Writer::new(&macros);
    for placed in pieces {
        writer.piece(placed.piece, placed.line)?;
    }
    match writer.open.pop() {
        Some(open) => Err(SyntaxError::new(open.line, format!("`{{% {} %}}` is not closed", open.tag))),
        None => Ok(Source { text: writer.out, marked: writer.marked, captured: writer.captured }),
    }
}

/// The name of the macro that a piece begins, if it has defaults; a call's block is a macro, too.
fn macro_with_defaults(piece: &Piece) -> Option<&str> {
    match piece {
        Piece::Block(tokens) => match tokens.as_slice() {
            [Token::Name(tag), Token::Name(name), parameters @ ..] if tag == "macro" => {
                parameters.contains(&Token::Operator("=")).then_some(name)
            }
            [Token::Name(tag), Token::Operator("("), parameters @ ..] if tag == "call" => {
                parameters.contains(&Token::Operator("=")).then_some("caller")
            }
            _ => None,
        },
        _ => None,
    }
}

/// A tag that waits for its end.
struct Open {
    tag: &'static str,
    line: usize,
    branches: usize,
}

struct Writer<'a> {
    /// The names of the macros that have defaults.
    macros: &'a BTreeSet<String>,
    out: String,
    /// Line breaks written so far.
    lines: usize,
    open: Vec<Open>,
    /// What is written after the tag that is being read.
    prelude: String,
    marked: bool,
    captured: bool,
}

/// Tags with an end, and what that is called.
const BLOCKS: [(&str, &str); 8] = [
    ("for", "endfor"),
    ("if", "endif"),
    ("macro", "endmacro"),
    ("call", "endcall"),
    ("filter", "endfilter"),
    ("with", "endwith"),
    ("set", "endset"),
    ("generation", "endgeneration"),
];

/// Begins a scope of its own.
const SCOPE: &str = "{% with %}";

impl<'a> Writer<'a> {
    fn new(macros: &'a BTreeSet<String>) -> Writer<'a> {
        Writer {
            macros,
            out: String::new(),
            lines: 0,
            open: Vec::new(),
            prelude: String::new(),
            marked: false,
            captured: false,
        }
    }

    fn piece(&mut self, piece: Piece, line: usize) -> Result<(), SyntaxError> {
        match piece {
            Piece::Data(text) => {
                self.data(&text);
                Ok(())
            }
            Piece::Variable(tokens) => {
                let mut parser = Parser::new(&tokens, self.macros);
                let written = parser.tuple(true).and_then(|written| parser.end().map(|()| written));
                let written = written.map_err(|reason| SyntaxError::new(line, reason))?;
                self.tag("{{", line, &written.text, "}}");
                Ok(())
            }
            Piece::Block(tokens) => {
                let written = self.block(&tokens, line).map_err(|reason| SyntaxError::new(line, reason))?;
                self.tag("{%", line, &written, "%}");
                let prelude = std::mem::take(&mut self.prelude);
                self.out.push_str(&prelude);
                Ok(())
            }
        }
    }

    /// Text that is written as it stands.
    fn data(&mut self, text: &str) {
        let tag_like = text.ends_with('{') || ["{{", "{%", "{#"].iter().any(|tag| text.contains(tag));
        if tag_like {
            self.out.push_str("{{ ");
            self.out.push_str(&literal(text));
            self.out.push_str(" }}");
        } else {
            self.lines += text.matches('\n').count();
            self.out.push_str(text);
        }
    }

    /// A tag, on the line on which it stood.
    fn tag(&mut self, open: &str, line: usize, inner: &str, close: &str) {
        self.out.push_str(open);
        let missing = line.saturating_sub(1).saturating_sub(self.lines);
        self.out.extend(std::iter::repeat_n('\n', missing));
        self.lines += missing;
        self.out.push(' ');
        self.out.push_str(inner);
        self.out.push(' ');
        self.out.push_str(close);
    }

    fn block(&mut self, tokens: &[Token], line: usize) -> Result<String, String> {
        let mut parser = Parser::new(tokens, self.macros);
        let tag = parser.name()?;
        let written = match tag {
            "for" => self.for_loop(&mut parser, line)?,
            "if" => {
                self.enter("if", line)?;
                format!("if {}", parser.tuple(false)?.text)
            }
            "elif" => self.elif(&mut parser)?,
            "set" => self.set(&mut parser, line)?,
            "macro" => self.macro_definition(&mut parser, line)?,
            "call" => self.macro_call(&mut parser, line)?,
            "filter" => {
                self.enter("filter", line)?;
                self.prelude = SCOPE.into();
                let mut chain = vec![parser.filter()?];
                while parser.skip_operator("|") {
                    chain.push(parser.filter()?);
                }
                format!("filter {}", chain.join("|"))
            }
            "with" => {
                self.enter("with", line)?;
                with_values(&mut parser)?
            }
            "generation" => self.generation(line)?,
            "else" | "break" | "continue" => tag.to_owned(),
            _ => self.leave(tag)?,
        };
        parser.end()?;
        Ok(written)
    }

    fn elif(&mut self, parser: &mut Parser) -> Result<String, String> {
        let open = self.open.last_mut().filter(|open| open.tag == "if").ok_or("`{% elif %}` without `{% if %}`")?;
        open.branches += 1;
        if open.branches > MAX_BRANCHES {
            return Err(format!("`{{% if %}}` has more than {MAX_BRANCHES} `{{% elif %}}`"));
        }
        Ok(format!("elif {}", parser.tuple(false)?.text))
    }

    fn macro_definition(&mut self, parser: &mut Parser, line: usize) -> Result<String, String> {
        self.enter("macro", line)?;
        let name = parser.name()?;
        check_name(name)?;
        parser.expect_operator("(")?;
        let (parameters, defaults) = parameters(parser, self.macros.contains(name))?;
        self.prelude = defaults;
        Ok(format!("macro {name}({parameters})"))
    }

    fn macro_call(&mut self, parser: &mut Parser, line: usize) -> Result<String, String> {
        self.enter("call", line)?;
        let mut own = String::new();
        if parser.skip_operator("(") {
            let (parameters, defaults) = parameters(parser, self.macros.contains("caller"))?;
            self.prelude = defaults;
            own = format!("({parameters})");
        }
        let call = parser.condition()?;
        if !call.call {
            return Err("`{% call %}` needs the call of a macro".into());
        }
        Ok(format!("call{own} {}", call.text))
    }

    fn generation(&mut self, line: usize) -> Result<String, String> {
        let captures = |open: &Open| matches!(open.tag, "macro" | "set" | "call" | "filter" | "generation");
        self.captured |= self.open.iter().any(captures);
        self.marked = true;
        self.enter("generation", line)?;
        Ok(format!("call {MARK}()"))
    }

    fn enter(&mut self, tag: &'static str, line: usize) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("tags are nested more than {MAX_DEPTH} deep"));
        }
        self.open.push(Open { tag, line, branches: 0 });
        Ok(())
    }

    fn leave(&mut self, end: &str) -> Result<String, String> {
        let Some((tag, _)) = BLOCKS.iter().find(|(_, known)| *known == end) else {
            return Err(format!("the tag `{end}` is not supported"));
        };
        match self.open.pop() {
            Some(open) if open.tag == *tag => Ok(match end {
                "endgeneration" => "endcall".into(),
                // What is set inside is not seen outside.
                "endset" | "endfilter" => format!("endwith %}}{{% {end}"),
                _ => end.into(),
            }),
            Some(open) => Err(format!("`{{% {end} %}}` where `{{% {} %}}` of line {} is open", open.tag, open.line)),
            None => Err(format!("`{{% {end} %}}` without `{{% {tag} %}}`")),
        }
    }

    fn for_loop(&mut self, parser: &mut Parser, line: usize) -> Result<String, String> {
        self.enter("for", line)?;
        let target = target(parser, false)?;
        if !parser.skip_name("in") {
            return Err("expected `in`".into());
        }
        let items = parser.tuple(false)?.through("_iterate");
        let test = if parser.skip_name("if") { format!(" if {}", parser.condition()?.text) } else { String::new() };
        let recursive = if parser.skip_name("recursive") { " recursive" } else { "" };
        Ok(format!("for {target} in {items}{test}{recursive}"))
    }

    fn set(&mut self, parser: &mut Parser, line: usize) -> Result<String, String> {
        let target = target(parser, true)?;
        if parser.skip_operator("=") {
            let value = parser.tuple(true)?.through("_hold");
            // A block that is a function to the engine takes with it only what expressions name.
            let namespace = target.split_once('.').map(|(name, _)| format!("({name})")).unwrap_or_default();
            return Ok(format!("set {target} = {value}{namespace}"));
        }
        self.enter("set", line)?;
        self.prelude = SCOPE.into();
        let mut written = format!("set {target}");
        while parser.skip_operator("|") {
            written.push('|');
            written.push_str(&parser.filter()?);
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(template: &str) -> bool {
        rewrite(template).unwrap().marked
    }

    #[test]
    fn marks_in_comments_strings_and_raw_text_are_no_marks() {
        assert!(marked("{%- generation -%}a{%+ endgeneration +%}"));
        assert!(!marked("{# {% generation %} #}{{ '{% generation %}' }}{% raw %}{% generation %}{% endraw %}"));
    }

    #[test]
    fn what_is_not_closed_is_an_error_with_its_line() {
        for (template, line) in [
            ("{%}", 1),
            ("a\n{%", 2),
            ("{% if x", 1),
            ("{{ 'a", 1),
            ("{#", 1),
            ("{% raw %}", 1),
            ("\n{% if x %}", 2),
            ("{% generation %}", 1),
            ("{% endfor %}", 1),
            ("{% for x in y %}{% endif %}", 1),
            ("{{ (1] }}", 1),
            ("{% nothing %}", 1),
            ("{{ }}", 1),
            ("{{ 1 2 }}", 1),
        ] {
            assert_eq!(rewrite(template).map_err(|error| error.line).unwrap_err(), line, "{template}");
        }
    }

    #[test]
    fn what_nests_or_follows_too_far_is_an_error() {
        let far = 30_000;
        for template in [
            format!("{{{{ {}1 }}}}", "-".repeat(far)),
            format!("{{{{ {}1 }}}}", "1+".repeat(far)),
            format!("{{{{ {}1 }}}}", "not ".repeat(far)),
            format!("{{{{ f{} }}}}", "()".repeat(far)),
            format!("{{{{ {}{} }}}}", "(".repeat(far), ")".repeat(far)),
            format!("{{{{ {}{} }}}}", "[".repeat(far), "]".repeat(far)),
            format!("{{{{ x{} }}}}", "|abs".repeat(far)),
            format!("{{{{ x{} }}}}", ".a".repeat(far)),
            format!("{{{{ x{} }}}}", "[0]".repeat(far)),
            format!("{{{{ x{} }}}}", " if y".repeat(far)),
            format!("{{{{ {}1 }}}}", "1 or ".repeat(far)),
            format!("{{{{ {}1 }}}}", "1 if 1 else ".repeat(far)),
            "{% if x %}".repeat(far),
            format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(far)),
            "a".repeat(MAX_LENGTH + 1),
        ] {
            assert!(rewrite(&template).is_err(), "{}", &template[..20]);
        }
    }
}
