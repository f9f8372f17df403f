//! Rows that are conversations, in each of the ways in which people write them down.

use std::ops::Range;

use serde_json::{Map, Value as Json, json};

use super::RowError;
use super::fields::{optional_text, text, weight};
use crate::data::{Answer, Rendered};

/// A conversation with what belongs to it.
#[derive(Debug)]
pub(in crate::data) struct ConversationRow {
    /// Objects with a `role`, in their order; what only training reads is taken out of them.
    pub messages: Vec<Json>,
    /// For each message, whether it is a target where the assistant said it.
    pub trained: Vec<bool>,
    /// Tools that the assistant has.
    pub tools: Option<Json>,
    /// Documents that it is given.
    pub documents: Option<Json>,
    /// The row's own variables for the template.
    pub variables: Option<Map<String, Json>>,
}

impl ConversationRow {
    /// How many of the assistant's messages are to be targets.
    pub(in crate::data) fn answers(&self) -> usize {
        let messages = self.messages.iter().zip(&self.trained);
        messages.filter(|(message, trained)| **trained && is_assistant(message)).count()
    }

    /// Whether it is a question and an answer, and nothing more.
    pub(in crate::data) fn is_one_turn(&self) -> bool {
        self.messages.len() == 2 && self.tools.is_none() && self.documents.is_none()
    }

    /// Whether all that the assistant says is to be a target.
    fn trains_every_answer(&self) -> bool {
        let mut messages = self.messages.iter().zip(&self.trained);
        messages.all(|(message, &trained)| trained || !is_assistant(message))
    }

    /// Where in the rendered text the answers are that are to be targets.
    ///
    /// # Errors
    /// [`RowError::UnknownAnswers`] where some are to be left out and it cannot be told which they are.
    pub(in crate::data) fn trained_answers(&self, rendered: &Rendered) -> Result<Vec<Range<usize>>, RowError> {
        let every = self.trains_every_answer();
        let wanted = |answer: &Answer| match answer.message {
            _ if every => Ok(true),
            Some(message) => Ok(self.trained.get(message) == Some(&true)),
            None => Err(RowError::UnknownAnswers),
        };
        let mut ranges = Vec::new();
        for answer in &rendered.answers {
            if wanted(answer)? {
                ranges.push(answer.range.clone());
            }
        }
        Ok(ranges)
    }

    /// Makes one text of content that is a list of texts, for templates that take no lists.
    pub(in crate::data) fn join_content_parts(&mut self) {
        for message in &mut self.messages {
            let Some(content) = message.get_mut("content") else { continue };
            if let Some(parts) = content.as_array() {
                let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
                *content = Json::String(texts.collect());
            }
        }
    }
}

fn role_of(message: &Json) -> Option<&str> {
    message.get("role").and_then(Json::as_str)
}

fn is_assistant(message: &Json) -> bool {
    role_of(message) == Some("assistant")
}

/// A row with `messages` or `conversations`.
pub(super) fn from_messages(row: &Map<String, Json>, field: &'static str) -> Result<ConversationRow, RowError> {
    let mut messages = Messages::default();
    // ShareGPT's rows may have the system's words in a column of their own.
    if field == "conversations" {
        messages.add_system(row)?;
    }
    let given = messages.messages.len();
    messages.add_all(row, field, true)?;
    if given > 0 && messages.messages.get(given).and_then(role_of) == Some("system") {
        let expected = "left out: the conversation begins with a system message of its own";
        return Err(RowError::Type { field: "system", expected });
    }
    messages.with_rest_of(row)
}

/// A row whose `prompt` and completion are messages: the assistant's in the completion are targets.
pub(super) fn from_prompt(row: &Map<String, Json>, completion: &'static str) -> Result<ConversationRow, RowError> {
    let mut messages = Messages::default();
    messages.add_all(row, "prompt", false)?;
    messages.add_all(row, completion, true)?;
    messages.with_rest_of(row)
}

/// A row with `instruction` and an output, as one turn; `history` has pairs of earlier ones.
pub(super) fn from_instruction(
    row: &Map<String, Json>,
    question: String,
    output: &'static str,
) -> Result<ConversationRow, RowError> {
    let mut messages = Messages::default();
    messages.add_system(row)?;
    for (asked, answered) in history(row)? {
        messages.add(json!({"role": "user", "content": asked}), true);
        messages.add(json!({"role": "assistant", "content": answered}), true);
    }
    messages.add(json!({"role": "user", "content": question}), true);
    messages.add(json!({"role": "assistant", "content": text(row, output)?}), true);
    messages.with_rest_of(row)
}

/// `history`: pairs of what was asked and answered before.
fn history(row: &Map<String, Json>) -> Result<Vec<(&str, &str)>, RowError> {
    let wrong = || RowError::Type { field: "history", expected: "a list of pairs of texts" };
    let Some(history) = row.get("history") else { return Ok(Vec::new()) };
    let pairs = history.as_array().ok_or_else(wrong)?;
    pairs.iter().map(|item| pair(item).ok_or_else(wrong)).collect()
}

fn pair(item: &Json) -> Option<(&str, &str)> {
    let [first, second] = item.as_array()?.as_slice() else { return None };
    Some((first.as_str()?, second.as_str()?))
}

/// Messages as they are put together.
#[derive(Default)]
struct Messages {
    messages: Vec<Json>,
    trained: Vec<bool>,
}

impl Messages {
    fn add(&mut self, message: Json, trained: bool) {
        self.messages.push(message);
        self.trained.push(trained);
    }

    fn add_system(&mut self, row: &Map<String, Json>) -> Result<(), RowError> {
        if let Some(system) = optional_text(row, "system")?.filter(|system| !system.is_empty()) {
            self.add(json!({"role": "system", "content": system}), true);
        }
        Ok(())
    }

    /// Adds the messages of a field; they are targets if they are `wanted` and do not say otherwise themselves.
    fn add_all(&mut self, row: &Map<String, Json>, field: &'static str, wanted: bool) -> Result<(), RowError> {
        let expected = "a list of messages, objects with `role` and `content`";
        let list = row.get(field).and_then(Json::as_array).ok_or(RowError::Type { field, expected })?;
        for (index, message) in list.iter().enumerate() {
            let bad = |reason| RowError::Message { field, message: index + 1, reason };
            let fields = message.as_object().ok_or_else(|| bad("is no object".into()))?;
            let trained = wanted && trained(fields).map_err(|error| bad(error.to_string()))?;
            self.add(Json::Object(read_message(fields).map_err(bad)?), trained);
        }
        Ok(())
    }

    /// A role that is the assistant's elsewhere, where no message has the assistant's own.
    fn foreign_role(&self) -> Option<(usize, &str)> {
        const FOREIGN: [&str; 5] = ["assistant", "gpt", "chatgpt", "bot", "model"];
        if self.messages.iter().any(is_assistant) {
            return None;
        }
        let roles = self.messages.iter().map(|message| message.get("role").and_then(Json::as_str).unwrap_or_default());
        roles.enumerate().find(|(_, role)| FOREIGN.contains(&role.to_lowercase().as_str()))
    }

    fn with_rest_of(self, row: &Map<String, Json>) -> Result<ConversationRow, RowError> {
        let list = |field: &'static str, expected| match row.get(field) {
            Some(value) if !value.is_array() => Err(RowError::Type { field, expected }),
            value => Ok(value.cloned()),
        };
        if let Some((index, role)) = self.foreign_role() {
            let reason =
                format!("its role is `{role}`, which chat templates do not know: the assistant's is `assistant`");
            return Err(RowError::Message { field: "messages", message: index + 1, reason });
        }
        if row.get("tools").is_some_and(Json::is_string) {
            return Err(RowError::ToolsAsText);
        }
        let variables = match row.get("chat_template_kwargs") {
            None => None,
            Some(Json::Object(variables)) => Some(variables.clone()),
            Some(_) => return Err(RowError::Type { field: "chat_template_kwargs", expected: "an object" }),
        };
        Ok(ConversationRow {
            messages: self.messages,
            trained: self.trained,
            tools: list("tools", "a list of tools")?,
            documents: list("documents", "a list of documents")?,
            variables,
        })
    }
}

/// Whether a message may be a target: by its `weight`, and by its `train` or `training`.
fn trained(message: &Map<String, Json>) -> Result<bool, RowError> {
    let mut trained = weight(message)?;
    for field in ["train", "training"] {
        match message.get(field) {
            None | Some(Json::Null) => {}
            Some(Json::Bool(train)) => trained &= train,
            Some(_) => return Err(RowError::Type { field, expected: "true or false" }),
        }
    }
    let asked = ["train", "training"].iter().any(|field| message.get(*field) == Some(&Json::Bool(true)));
    match role(message) {
        Some("assistant" | "gpt" | "chatgpt" | "bing" | "bard" | "model" | "function_call") => Ok(trained),
        Some(_) if asked => {
            Err(RowError::Type { field: "train", expected: "left out: the assistant's messages alone can be targets" })
        }
        _ => Ok(trained),
    }
}

fn role(message: &Map<String, Json>) -> Option<&str> {
    let value = |field: &str| message.get(field).filter(|value| !value.is_null());
    value("role").or_else(|| value("from")).and_then(Json::as_str)
}

/// A message with `role` and `content`, whichever way it was written.
fn read_message(message: &Map<String, Json>) -> Result<Map<String, Json>, String> {
    let has_no_role = message.get("role").is_none_or(Json::is_null);
    if has_no_role && message.contains_key("from") {
        return from_value(message);
    }
    if !message.get("role").is_some_and(Json::is_string) {
        return Err("has no `role`".into());
    }
    check_content(message.get("content"))?;
    let own = |key: &str| matches!(key, "weight" | "train" | "training");
    Ok(message
        .iter()
        .filter(|(key, value)| !own(key) && !value.is_null())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect())
}

/// Content is a text or a list of parts that are texts; a message of tool calls has none.
fn check_content(content: Option<&Json>) -> Result<(), String> {
    match content {
        None | Some(Json::Null | Json::String(_)) => Ok(()),
        Some(Json::Array(parts)) => match parts.iter().find(|part| !is_text(part)) {
            None => Ok(()),
            Some(part) => {
                let kind = part.get("type").and_then(Json::as_str).unwrap_or("unknown");
                Err(format!("has a part of type `{kind}`; a language model reads parts of type `text` alone"))
            }
        },
        Some(_) => Err("`content` is neither a text nor a list of parts".into()),
    }
}

fn is_text(part: &Json) -> bool {
    let kind = part.get("type").and_then(Json::as_str);
    (kind.is_none() || kind == Some("text")) && part.get("text").is_some_and(Json::is_string)
}

/// `{"from", "value"}`, as ShareGPT has messages.
fn from_value(message: &Map<String, Json>) -> Result<Map<String, Json>, String> {
    let value = message.get("value").and_then(Json::as_str).ok_or("has `from` and no text as `value`")?;
    let role = match role(message) {
        Some("human" | "user") => "user",
        Some("gpt" | "assistant" | "chatgpt" | "bing" | "bard" | "model") => "assistant",
        Some("system") => "system",
        Some("tool" | "observation" | "function_response") => "tool",
        Some("function_call") => return function_call(value),
        Some(other) => {
            return Err(format!("`from` is `{other}`; known are human, gpt, system, tool, function_call, observation"));
        }
        None => return Err("`from` is no text".into()),
    };
    Ok(object(json!({"role": role, "content": value})))
}

/// A call that ShareGPT's rows give as JSON in a text.
fn function_call(value: &str) -> Result<Map<String, Json>, String> {
    let call: Json = serde_json::from_str(value).map_err(|error| format!("its function call is no JSON: {error}"))?;
    let calls = match call {
        Json::Array(calls) => calls,
        call => vec![call],
    };
    if calls.iter().any(|call| !call.get("name").is_some_and(Json::is_string)) {
        return Err("its function call has no `name`".into());
    }
    let calls: Vec<Json> = calls.into_iter().map(|call| json!({"type": "function", "function": call})).collect();
    Ok(object(json!({"role": "assistant", "content": "", "tool_calls": calls})))
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(fields) => fields,
        _ => Map::new(),
    }
}
