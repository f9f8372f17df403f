//! One template, compiled: the engine with Python's filters, tests and functions.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use jiff::civil::DateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value};

use super::arguments::Arguments;
use super::error::TemplateError;
use super::fault::{failed, fault, reason};
use super::functions::{BETWEEN, add_functions};
use super::habits::Habits;
use super::operators::add_operators;
use super::syntax::{self, SyntaxError};
use super::values::{self, visit_call};
use super::{filters, jinja_tests};

/// Work that one rendering may do, within about a second. One unit is an operation, 64 bytes of text that is made, or 16
/// that are gone through.
const FUEL: u64 = 3_000_000;

/// How deep macros and recursive loops may nest, as the engine counts.
const RECURSION: usize = 250;

const NAME: &str = "chat";

/// A compiled template.
pub(super) struct Engine {
    environment: Environment<'static>,
    path: PathBuf,
    /// Whether it has `{% generation %}`.
    pub(super) marked: bool,
    /// Whether the template may do something with marked text before it is written.
    pub(super) captured: bool,
    /// What it does around every answer, once that is known.
    pub(super) habits: OnceLock<Habits>,
}

impl Engine {
    /// Compiles the template of a file. `now` is what `strftime_now` tells; `asked` becomes true when it is called.
    pub(super) fn new(
        path: &Path,
        template: &str,
        now: DateTime,
        asked: Arc<AtomicBool>,
    ) -> Result<Engine, SyntaxError> {
        let source = syntax::rewrite(template)?;
        let fault = |error: Error| SyntaxError::new(error.line().unwrap_or(1), reason(&error));
        let mut environment = Environment::empty();
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build().map_err(fault)?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_formatter(|out, state, value| match value.as_str() {
            Some(text) => Ok(out.write_str(text)?),
            None => Ok(out.write_str(&values::string(state, value)?)?),
        });
        add_filters(&mut environment);
        add_tests(&mut environment);
        add_operators(&mut environment);
        add_functions(&mut environment, now, asked);
        environment.add_template_owned(NAME, source.text).map_err(fault)?;
        Ok(Engine {
            environment,
            path: path.into(),
            marked: source.marked,
            captured: source.captured,
            habits: OnceLock::new(),
        })
    }

    /// Renders with variables; marked text stands between the two characters of `between`, if given.
    pub(super) fn render(
        &self,
        variables: Vec<(String, Value)>,
        between: Option<[char; 2]>,
    ) -> Result<String, TemplateError> {
        let between = between.map(|pair| (BETWEEN.to_owned(), Value::from(String::from_iter(pair))));
        let context = Value::from_pairs(variables.into_iter().chain(between));
        let rendered = self.environment.get_template(NAME).and_then(|template| template.render(context));
        rendered.map_err(|error| TemplateError::of(fault(&error), &self.path))
    }
}

fn add_filters(environment: &mut Environment) {
    for (name, filter) in filters::ALL {
        environment.add_filter(format!("f_{name}"), move |state: &mut State, arguments: Rest<ValueOrKwargs>| {
            filters::apply(state, filter, &arguments.into_values())
        });
    }
}

fn add_tests(environment: &mut Environment) {
    for (name, test) in jinja_tests::ALL {
        environment.add_test(format!("t_{name}"), move |state: &mut State, arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            let (value, rest) = arguments.split_first().ok_or_else(|| failed("a test without a value"))?;
            visit_call(state, &arguments)?;
            let mut rest = Arguments::new(rest);
            let holds = test(state, value, &mut rest)?;
            rest.finish()?;
            Ok::<bool, Error>(holds)
        });
    }
}
