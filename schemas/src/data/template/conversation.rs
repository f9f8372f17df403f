//! A conversation as transformers hands it to a template.

use std::collections::BTreeMap;

use minijinja::Value;
use serde_json::{Map, Value as Json};

/// A conversation to be rendered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conversation<'a> {
    /// Objects with `role` and, mostly, `content`.
    pub messages: &'a [Json],
    /// A list of objects that each describe a tool; null is as none.
    pub tools: Option<&'a Json>,
    /// A list of objects; null is as none.
    pub documents: Option<&'a Json>,
    /// Variables of this row alone, which come before those of the settings.
    pub variables: Option<&'a Map<String, Json>>,
}

impl Conversation<'_> {
    /// Whether a character stands in a text of the conversation.
    pub(super) fn holds(&self, c: char) -> bool {
        self.messages.iter().any(|message| holds(message, c))
            || [self.tools, self.documents].into_iter().flatten().any(|value| holds(value, c))
            || self.variables.into_iter().flatten().any(|(name, value)| name.contains(c) || holds(value, c))
    }
}

/// Whether a character stands in a text of a JSON value.
pub(super) fn holds(value: &Json, c: char) -> bool {
    match value {
        Json::String(text) => text.contains(c),
        Json::Array(items) => items.iter().any(|item| holds(item, c)),
        Json::Object(fields) => fields.iter().any(|(name, value)| name.contains(c) || holds(value, c)),
        _ => false,
    }
}

/// Names that a conversation gives to a template itself.
const OWN: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

/// A conversation as the engine takes it.
pub(super) struct Prepared {
    pub(super) messages: Vec<Value>,
    pub(super) has_tools: bool,
    /// All variables but the messages and the wish for a prompt.
    variables: Vec<(String, Value)>,
}

impl Prepared {
    /// Takes a conversation as transformers does, or says why it is refused.
    pub(super) fn new(
        conversation: &Conversation,
        special_tokens: &[(String, String)],
        settings: &BTreeMap<String, Json>,
    ) -> Result<Prepared, String> {
        let messages = conversation.messages.iter().map(message).collect::<Result<_, _>>()?;
        let tools = objects(conversation.tools, "tools")?;
        let documents = objects(conversation.documents, "documents")?;
        let has_tools = tools.is_some();
        let mut variables: Vec<(String, Value)> =
            special_tokens.iter().map(|(name, token)| (name.clone(), Value::from(token.as_str()))).collect();
        let own = conversation.variables.into_iter().flatten();
        for (name, value) in settings.iter().chain(own) {
            if OWN.contains(&name.as_str()) {
                return Err(format!("`{name}` cannot be a variable of the chat template: the row gives it"));
            }
            variables.push((name.clone(), value_of(value)));
        }
        variables.push(("tools".into(), tools.unwrap_or(Value::from(()))));
        variables.push(("documents".into(), documents.unwrap_or(Value::from(()))));
        Ok(Prepared { messages, has_tools, variables })
    }

    /// All variables, with these messages.
    pub(super) fn variables(&self, messages: Vec<Value>, prompt: bool) -> Vec<(String, Value)> {
        let mut variables = self.variables.clone();
        variables.push(("messages".into(), Value::from(messages)));
        variables.push(("add_generation_prompt".into(), Value::from(prompt)));
        variables
    }
}

/// A list of objects.
fn objects(list: Option<&Json>, name: &str) -> Result<Option<Value>, String> {
    match list {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Array(items)) if items.iter().all(Json::is_object) => Ok(Some(items.iter().map(value_of).collect())),
        Some(Json::String(_)) => Err(format!("`{name}` is a text; it must be a list of objects")),
        Some(_) => Err(format!("`{name}` must be a list of objects")),
    }
}

/// The names under which reasoning is passed; the first is what most templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A message without its null values, and with its reasoning under the names that templates read.
fn message(message: &Json) -> Result<Value, String> {
    let fields = message.as_object().ok_or("a message must be an object")?;
    let mut fields: Vec<(&str, &Json)> =
        fields.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.as_str(), value)).collect();
    let get = |name: &str| fields.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    if let Some(reasoning) = REASONING.iter().find_map(|name| get(name)) {
        let thinking = get("thinking").unwrap_or(reasoning);
        fields.retain(|(name, _)| *name != "thinking");
        fields.insert(0, ("thinking", thinking));
        match fields.iter_mut().find(|(name, _)| *name == "reasoning_content") {
            Some((_, value)) => *value = reasoning,
            None => fields.push(("reasoning_content", reasoning)),
        }
    }
    Ok(Value::from_pairs(fields.into_iter().map(|(name, value)| (name, value_of(value)))))
}

/// JSON as the engine takes it.
pub(super) fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(truth) => Value::from(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::from(integer),
            (None, Some(integer)) => Value::from(integer),
            (None, None) => number.as_f64().map_or(Value::from(()), Value::from),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value_of).collect(),
        Json::Object(fields) => Value::from_pairs(fields.iter().map(|(name, value)| (name.as_str(), value_of(value)))),
    }
}
