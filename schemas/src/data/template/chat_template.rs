//! A model's chat templates: which one renders a conversation, and how.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use jiff::civil::{Date, DateTime, Time};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::answers::{Found, Search, assistants};
use super::conversation::{Conversation, Prepared, holds};
use super::engine::Engine;
use super::error::TemplateError;
use super::marks::{matched, unmarked};
use super::rendered::{FoundBy, Rendered};
use crate::model::chat_template;

/// How templates are rendered, beyond the model's own files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TemplateSettings {
    /// The template, where the model has several; else `tool_use` for conversations with tools, and `default`.
    pub name: Option<String>,
    /// The day that `strftime_now` tells, at midnight; else now, on the local clock.
    pub date: Option<Date>,
    /// Variables that the template may use; they come before the special tokens.
    pub variables: BTreeMap<String, Json>,
}

/// A model's chat templates with the special tokens that they may use.
pub struct ChatTemplate {
    folder: PathBuf,
    templates: Vec<Named>,
    /// Variables such as `bos_token`, with their texts.
    special_tokens: Vec<(String, String)>,
    settings: TemplateSettings,
    now: DateTime,
    asked_for_date: Arc<AtomicBool>,
    takes_parts: OnceLock<bool>,
    free_characters: OnceLock<Vec<char>>,
}

/// One of a model's templates, compiled when it is first used.
struct Named {
    name: String,
    path: PathBuf,
    text: String,
    engine: OnceLock<Result<Engine, TemplateError>>,
}

impl ChatTemplate {
    /// Reads the templates of the model in `folder` and compiles the one that is used first. `special_tokens` are variables
    /// such as `bos_token` with their texts.
    pub fn open(
        folder: &Path,
        special_tokens: &[(String, String)],
        settings: &TemplateSettings,
    ) -> Result<ChatTemplate, TemplateError> {
        let found = chat_template::find(folder)?;
        if found.is_empty() {
            return Err(TemplateError::NoTemplate { folder: folder.into() });
        }
        let named = |(name, template): (String, chat_template::Found)| Named {
            name,
            path: template.path,
            text: template.text,
            engine: OnceLock::new(),
        };
        let now = match settings.date {
            Some(date) => date.to_datetime(Time::midnight()),
            None => jiff::ZonedDateTime::now().datetime(),
        };
        let template = ChatTemplate {
            folder: folder.into(),
            templates: found.into_iter().map(named).collect(),
            special_tokens: special_tokens.to_vec(),
            settings: settings.clone(),
            now,
            asked_for_date: Arc::default(),
            takes_parts: OnceLock::new(),
            free_characters: OnceLock::new(),
        };
        // A model may have a template for tools alone; all else that is wrong is said at once.
        match template.engine(false) {
            Err(TemplateError::NoDefault { .. }) if template.named("tool_use").is_some() => Ok(template),
            Err(error) => Err(error),
            Ok(_) => Ok(template),
        }
    }

    /// Renders a conversation and finds the assistant's answers in it.
    pub fn render(&self, conversation: &Conversation) -> Result<Rendered, TemplateError> {
        let prepared = self.prepare(conversation)?;
        let engine = self.engine(prepared.has_tools)?;
        if engine.marked
            && let Some(rendered) = self.render_marked(engine, conversation, &prepared)?
        {
            return Ok(rendered);
        }
        let text = text(engine, &prepared, false)?;
        let (answers, found_by) = Search::new(engine, &prepared, &text)
            .answers()
            .or_else(|| no_answers(&prepared))
            .ok_or(TemplateError::Unclear)?;
        Ok(Rendered { text, answers, found_by })
    }

    /// The text of a conversation alone, as a prompt for its next answer if wished.
    pub fn render_prompt(
        &self,
        conversation: &Conversation,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let prepared = self.prepare(conversation)?;
        text(self.engine(prepared.has_tools)?, &prepared, add_generation_prompt)
    }

    /// Whether a template has asked for the date in any rendering so far.
    pub fn asks_for_date(&self) -> bool {
        self.asked_for_date.load(Ordering::Relaxed)
    }

    /// The date that a template is told.
    pub fn date(&self) -> Date {
        self.now.date()
    }

    /// Whether the template writes content that is a list of text parts as it writes the text itself.
    pub fn takes_content_parts(&self) -> bool {
        *self.takes_parts.get_or_init(|| {
            let part = |text: &str| json!([{"type": "text", "text": text}]);
            let render = |user: Json, assistant: Json| {
                let messages =
                    [json!({"role": "user", "content": user}), json!({"role": "assistant", "content": assistant})];
                self.render_prompt(&Conversation { messages: &messages, ..Conversation::default() }, false)
            };
            let plain = render("question".into(), "answer".into());
            let parts = render(part("question"), part("answer"));
            matches!((plain, parts), (Ok(plain), Ok(parts)) if plain == parts)
        })
    }

    fn prepare(&self, conversation: &Conversation) -> Result<Prepared, TemplateError> {
        Prepared::new(conversation, &self.special_tokens, &self.settings.variables).map_err(TemplateError::Conversation)
    }

    fn named(&self, name: &str) -> Option<&Named> {
        self.templates.iter().find(|template| template.name == name)
    }

    /// The template that a conversation is rendered by.
    fn engine(&self, tools: bool) -> Result<&Engine, TemplateError> {
        let names = || self.templates.iter().map(|template| template.name.clone()).collect();
        let template = match &self.settings.name {
            Some(name) => self.named(name).ok_or_else(|| TemplateError::Name {
                folder: self.folder.clone(),
                name: name.clone(),
                names: names(),
            })?,
            None => {
                let for_tools = if tools { self.named("tool_use") } else { None };
                let found = for_tools.or_else(|| self.named("default"));
                found.ok_or_else(|| TemplateError::NoDefault { folder: self.folder.clone(), names: names() })?
            }
        };
        let compiled = template.engine.get_or_init(|| {
            Engine::new(&template.path, &template.text, self.now, self.asked_for_date.clone()).map_err(|error| {
                TemplateError::Compile { path: template.path.clone(), line: error.line, reason: error.reason }
            })
        });
        compiled.as_ref().map_err(Clone::clone)
    }

    /// Renders by a template with marks; none where it does something with marked text that depends on the marks.
    fn render_marked(
        &self,
        engine: &Engine,
        conversation: &Conversation,
        prepared: &Prepared,
    ) -> Result<Option<Rendered>, TemplateError> {
        let plain = if engine.captured { Some(text(engine, prepared, false)?) } else { None };
        let Some(marks) = self.unused_characters(conversation) else { return Ok(None) };
        let variables = prepared.variables(prepared.messages.clone(), false);
        let marked = engine.render(variables, Some(marks))?;
        let Some((text, ranges)) = unmarked(&marked, marks) else { return Ok(None) };
        if plain.is_some_and(|plain| plain != text) {
            return Ok(None);
        }
        let answers = matched(ranges, &text, &prepared.messages);
        Ok(Some(Rendered { text, answers, found_by: FoundBy::Marks }))
    }

    /// Two characters that stand neither in the template nor in the conversation.
    fn unused_characters(&self, conversation: &Conversation) -> Option<[char; 2]> {
        let free = self.free_characters.get_or_init(|| self.find_free_characters());
        let mut unused = free.iter().copied().filter(|c| !conversation.holds(*c));
        Some([unused.next()?, unused.next()?])
    }

    /// Characters that stand in nothing that is given to every conversation, not even as an escape.
    fn find_free_characters(&self) -> Vec<char> {
        let templates: Vec<String> = self.templates.iter().map(|template| template.text.to_ascii_lowercase()).collect();
        let is_free = |c: &char| {
            let escape = format!("{:x}", u32::from(*c));
            !(templates.iter().any(|text| text.contains(*c) || text.contains(&escape))
                || self.special_tokens.iter().any(|(_, token)| token.contains(*c))
                || self.settings.variables.values().any(|value| holds(value, *c)))
        };
        // Unicode promises never to give these a meaning.
        ('\u{fdd0}'..='\u{fdef}').filter(is_free).collect()
    }
}

/// A conversation in which the assistant says nothing has no answers to be found.
fn no_answers(prepared: &Prepared) -> Option<Found> {
    assistants(&prepared.messages).is_empty().then(|| (Vec::new(), FoundBy::Prefix))
}

fn text(engine: &Engine, prepared: &Prepared, prompt: bool) -> Result<String, TemplateError> {
    engine.render(prepared.variables(prepared.messages.clone(), prompt), None)
}
