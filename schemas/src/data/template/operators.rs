//! What the expressions of a template are written anew with.

use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value};

use super::fault::failed;
use super::held::held;
use super::values::{self, Number, PassedUndefined, Text};
use super::{lookup, methods};

/// Adds the filters that expressions are written anew with.
pub(super) fn add_operators(environment: &mut Environment) {
    add_arithmetic(environment);
    add_comparison(environment);
    add_lookup(environment);
    environment.add_filter("_concat", |state: &mut State, first: &Value, rest: Rest<Value>| {
        let mut text = Text::new();
        std::iter::once(first)
            .chain(rest.iter())
            .try_for_each(|value| values::write_string(state, value, &mut text))?;
        Ok::<Value, Error>(Value::from(text.finish()))
    });
    // What is undefined is passed to a macro as something else, and received as what it is.
    environment.add_filter("_passed", |_: &mut State, value: &Value| match value.is_undefined() {
        true => Value::from_object(PassedUndefined),
        false => value.clone(),
    });
    environment.add_filter("_received", |_: &mut State, value: &Value| {
        match value.downcast_object_ref::<PassedUndefined>() {
            Some(PassedUndefined) => Value::UNDEFINED,
            None => value.clone(),
        }
    });
    environment.add_filter("_iterate", |state: &mut State, value: Value| values::iterable(state, value));
    environment.add_filter("_hold", |state: &mut State, value: Value, _: Rest<Value>| held(state, value));
}

fn add_arithmetic(environment: &mut Environment) {
    environment.add_filter("_arithmetic", |state: &mut State, first: &Value, rest: Rest<Value>| {
        rest.chunks_exact(2).try_fold(first.clone(), |left, pair| match pair {
            [operator, right] => values::arithmetic(state, &left, operator.as_str().unwrap_or_default(), right),
            _ => Ok(left),
        })
    });
    environment.add_filter("_negative", |state: &mut State, value: &Value| match values::number(value) {
        Some(Number::Float(float)) => Ok(Value::from(-float)),
        Some(_) => values::arithmetic(state, &Value::from(0), "-", value),
        None => Err(failed(format!("bad operand type for unary -: '{}'", values::type_name(value)))),
    });
    environment.add_filter("_positive", |state: &mut State, value: &Value| {
        values::arithmetic(state, &Value::from(0), "+", value)
    });
}

fn add_comparison(environment: &mut Environment) {
    environment.add_filter("_compare", |state: &mut State, first: &Value, rest: Rest<Value>| {
        let mut left = first;
        for pair in rest.chunks_exact(2) {
            if let [operator, right] = pair {
                if !values::compare(state, left, operator.as_str().unwrap_or_default(), right)? {
                    return Ok(false);
                }
                left = right;
            }
        }
        Ok::<bool, Error>(true)
    });
    environment.add_filter("_in", |state: &mut State, item: &Value, container: &Value| {
        values::contains(state, container, item)
    });
    environment.add_filter("_not_in", |state: &mut State, item: &Value, container: &Value| {
        values::contains(state, container, item).map(|found| !found)
    });
}

fn add_lookup(environment: &mut Environment) {
    environment.add_filter("_item", |state: &mut State, value: &Value, key: &Value| lookup::item(state, value, key));
    environment.add_filter(
        "_slice",
        |state: &mut State, value: &Value, start: &Value, stop: &Value, step: Option<Value>| {
            let bound = |bound: &Value| match values::integer(bound) {
                None if !bound.is_none() => Err(failed("slice indices must be whole numbers")),
                bound => Ok(bound),
            };
            let step = step.unwrap_or(Value::from(()));
            lookup::slice(state, value, [bound(start)?, bound(stop)?, bound(&step)?])
        },
    );
    environment.add_filter("_attribute", |_: &mut State, value: &Value, name: &str| lookup::attribute(value, name));
    environment.add_filter(
        "_method",
        |state: &mut State, value: &Value, name: &str, arguments: Rest<ValueOrKwargs>| {
            methods::call(state, value, name, &arguments.into_values())
        },
    );
}
