//! What tags give values to: targets of assignments and loops, parameters of macros, names of `{% with %}`.

use super::parser::Parser;
use super::written::{Written, check_name};

/// What is assigned to: a name, names with commas, or, where `attributes`, an attribute of a namespace.
pub(crate) fn target(parser: &mut Parser, attributes: bool) -> Result<String, String> {
    let mut names = Vec::new();
    let mut tuple = false;
    loop {
        if parser.skip_operator("(") {
            let inner = parser.nested(|parser| target(parser, false))?;
            parser.expect_operator(")")?;
            names.push(format!("({inner})"));
        } else {
            names.push(assigned(parser, attributes)?);
        }
        if !parser.skip_operator(",") {
            break;
        }
        tuple = true;
        if parser.is_operator("=") || parser.is_name("in") {
            break;
        }
    }
    let comma = if tuple && names.len() == 1 { "," } else { "" };
    Ok(format!("{}{comma}", names.join(", ")))
}

/// A name that is assigned to or, where `attributes`, an attribute of a namespace.
fn assigned(parser: &mut Parser, attributes: bool) -> Result<String, String> {
    let name = parser.name()?;
    check_name(name)?;
    if !attributes || !parser.skip_operator(".") {
        return Ok(name.to_owned());
    }
    let attribute = parser.name()?;
    // As transformers' own namespaces do.
    if attribute.starts_with('_') {
        return Err(format!("a namespace takes no attribute `{attribute}`"));
    }
    Ok(format!("{name}.{attribute}"))
}

/// The parameters of a macro up to the closing bracket, and what gives those their defaults that are not passed. The engine
/// does not tell what is undefined from what is not passed, so where it matters, calls pass it `marked`.
pub(crate) fn parameters(parser: &mut Parser, marked: bool) -> Result<(String, String), String> {
    let (mut parameters, mut defaults) = (Vec::new(), String::new());
    while !parser.skip_operator(")") {
        let name = parser.name()?;
        check_name(name)?;
        parameters.push(name);
        let received = if marked { format!("{{% set {name} = {name}|_received %}}") } else { String::new() };
        if parser.skip_operator("=") {
            // A default may name the parameters before it, so they are set in their order.
            let default = parser.condition()?.text;
            defaults.push_str(&format!(
                "{{% if {name} is t_undefined %}}{{% set {name} = {default} %}}{{% else %}}{received}{{% endif %}}"
            ));
        } else {
            defaults.push_str(&received);
        }
        if !parser.is_operator(")") {
            parser.expect_operator(",")?;
        }
    }
    Ok((parameters.join(", "), defaults))
}

/// What `{% with %}` gives values to.
pub(crate) fn with_values(parser: &mut Parser) -> Result<String, String> {
    let (mut targets, mut values): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    while parser.end().is_err() {
        if !values.is_empty() {
            parser.expect_operator(",")?;
        }
        targets.push(assigned(parser, false)?);
        parser.expect_operator("=")?;
        let value: Written = parser.condition()?;
        values.push(value.text);
    }
    if let ([target], [value]) = (&targets[..], &values[..]) {
        return Ok(format!("with {target} = {value}"));
    }
    // All values are those outside: one sees none of the others' targets.
    let held: Vec<String> = values.iter().enumerate().map(|(i, value)| format!("t_with{i} = {value}")).collect();
    let sets = targets.iter().enumerate().map(|(i, target)| format!(" %}}{{% set {target} = t_with{i}"));
    Ok(format!("with {}{}", held.join(", "), sets.collect::<String>()))
}
