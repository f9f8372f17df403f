//! Expressions as the engine reads them.

/// An expression as the engine reads it.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) text: String,
    binding: Binding,
    /// The name of a call such as `name(…)`, which `{% call %}` needs.
    pub(crate) call: bool,
    pub(crate) name: Option<String>,
}

/// How tightly an expression holds together.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) enum Binding {
    /// Needs brackets wherever something follows.
    Loose,
    /// May be followed by a filter.
    Filtered,
    /// May be followed by anything.
    Atom,
}

impl Written {
    pub(crate) fn atom(text: String) -> Written {
        Written { text, binding: Binding::Atom, call: false, name: None }
    }

    pub(crate) fn filtered(text: String) -> Written {
        Written { binding: Binding::Filtered, ..Written::atom(text) }
    }

    pub(crate) fn loose(text: String) -> Written {
        Written { binding: Binding::Loose, ..Written::atom(text) }
    }

    /// The text, in brackets unless it holds together so tightly.
    pub(crate) fn at_least(&self, binding: Binding) -> String {
        if self.binding >= binding { self.text.clone() } else { format!("({})", self.text) }
    }

    /// The expression through one of our filters.
    pub(crate) fn through(&self, filter: &str) -> String {
        format!("{}|{filter}", self.at_least(Binding::Filtered))
    }
}

/// `a|filter(b, "op", c, …)`, or the only operand as it is.
pub(crate) fn chain(filter: &str, operands: &[Written], operators: &[&str]) -> Written {
    let Some((first, rest)) = operands.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return operands.first().cloned().unwrap_or_else(|| Written::atom("none".into()));
    };
    let mut arguments = Vec::with_capacity(2 * rest.len());
    for (i, operand) in rest.iter().enumerate() {
        arguments.extend(operators.get(i).map(|operator| format!("\"{operator}\"")));
        arguments.push(operand.at_least(Binding::Filtered));
    }
    Written::filtered(format!("{}({})", first.through(filter), arguments.join(", ")))
}

/// A tuple of expressions.
pub(crate) fn tuple_of(items: &[Written]) -> String {
    let texts: Vec<String> = items.iter().map(|item| item.at_least(Binding::Filtered)).collect();
    if let [only] = texts.as_slice() { format!("({only},)") } else { format!("({})", texts.join(", ")) }
}

/// `value(arguments)`.
pub(crate) fn called(value: &Written, arguments: &str) -> Written {
    // A loop takes what it goes on with as `for` does.
    let arguments = if value.name.as_deref() == Some("loop") && !arguments.is_empty() {
        format!("({arguments})|_iterate")
    } else {
        arguments.to_owned()
    };
    let call = value.name.is_some();
    Written { call, ..Written::atom(format!("{}({arguments})", value.at_least(Binding::Atom))) }
}

/// A name or a constant.
pub(crate) fn named(name: &str) -> Result<Written, String> {
    match name {
        "true" | "True" => Ok(Written::atom("true".into())),
        "false" | "False" => Ok(Written::atom("false".into())),
        "none" | "None" => Ok(Written::atom("none".into())),
        "self" | "super" => Err(format!("`{name}` is not supported")),
        "if" | "else" | "elif" | "and" | "or" | "not" | "in" | "is" | "for" | "recursive" => {
            Err(format!("unexpected `{name}`"))
        }
        _ => {
            check_name(name)?;
            Ok(Written { name: Some(name.into()), ..Written::atom(name.into()) })
        }
    }
}

/// Names that begin as ours do are not for templates.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.starts_with("_frostline") { Err(format!("the name `{name}` is reserved")) } else { Ok(()) }
}

/// A string that the engine reads as `text`, without a line break in it.
pub(crate) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}
