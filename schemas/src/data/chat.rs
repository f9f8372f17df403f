//! A model's own chat template: conversations to text, and which of the text the assistant said.

use std::ops::Range;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde_json::Value as Json;

use crate::model::chat_template::{self, ChatTemplateError};

/// A chat template that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum ChatError {
    /// The model has no template.
    #[error(
        "{}: rows with `messages` need a chat template: chat_template.jinja, or `chat_template` in \
         tokenizer_config.json; a base model has none, so give it rows with `prompt` and `completion`",
        folder.display()
    )]
    NoTemplate { folder: PathBuf },
    /// A file is unreadable or not what it should be.
    #[error(transparent)]
    File(#[from] ChatTemplateError),
    /// The template does not take this conversation.
    #[error("the chat template says: {0}")]
    Render(String),
    /// The template writes a conversation's beginning differently once it goes on.
    #[error(
        "the chat template writes message {message} differently when the assistant's answer follows, so the answer's \
         tokens cannot be told apart; give this row as `input_ids` and `labels`"
    )]
    Unstable { message: usize },
}

/// A compiled chat template with the special tokens that it may use.
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: Vec<(String, String)>,
}

/// A conversation as text.
#[derive(Debug, PartialEq, Eq)]
pub struct Rendered {
    /// What the model is shown.
    pub text: String,
    /// What the assistant said, its end-of-turn token included, as byte ranges of `text`, in order.
    pub answers: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// Reads the template of the model in `folder`.
    pub fn open(folder: &Path) -> Result<ChatTemplate, ChatError> {
        let config = chat_template::tokenizer_config(folder)?;
        let (path, template) =
            chat_template::find(folder, &config)?.ok_or_else(|| ChatError::NoTemplate { folder: folder.into() })?;
        ChatTemplate::compile(&template, special_tokens(&config))
            .map_err(|error| ChatTemplateError { path, reason: format!("chat template: {error}") }.into())
    }

    fn compile(template: &str, special_tokens: Vec<(String, String)>) -> Result<ChatTemplate, Error> {
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        // `strftime_now` is left undefined on purpose: a template must not write today's date into a plan.
        environment.add_template_owned("chat", without_generation_marks(template))?;
        Ok(ChatTemplate { environment, special_tokens })
    }

    /// Renders a conversation and finds the assistant's turns in it.
    pub fn render(&self, messages: &[Json], tools: Option<&Json>) -> Result<Rendered, ChatError> {
        let text = self.text(messages, tools, false)?;
        let mut answers = Vec::new();
        for (i, message) in messages.iter().enumerate() {
            if message.get("role").and_then(Json::as_str) != Some("assistant") {
                continue;
            }
            let before = self.text(&messages[..i], tools, true)?;
            let after = self.text(&messages[..=i], tools, false)?;
            if !after.starts_with(&before) || !text.starts_with(&after) {
                return Err(ChatError::Unstable { message: i + 1 });
            }
            // The line break after the end-of-turn token belongs to the template, not to the answer.
            answers.push(before.len()..before.len().max(after.trim_end().len()));
        }
        Ok(Rendered { text, answers })
    }

    fn text(&self, messages: &[Json], tools: Option<&Json>, add_prompt: bool) -> Result<String, ChatError> {
        let mut context: Vec<(String, Value)> =
            self.special_tokens.iter().map(|(name, token)| (name.clone(), Value::from(token.as_str()))).collect();
        context.push(("messages".into(), Value::from(Serde(messages))));
        context.push(("add_generation_prompt".into(), Value::from(add_prompt)));
        if let Some(tools) = tools {
            context.push(("tools".into(), Value::from(Serde(tools))));
        }
        let template = self.environment.get_template("chat").map_err(render_error)?;
        template.render(Value::from_pairs(context)).map_err(render_error)
    }
}

fn render_error(error: Error) -> ChatError {
    ChatError::Render(error.detail().map_or_else(|| error.to_string(), str::to_owned))
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Drops the `{% generation %}` marks that some templates set around answers: a tag that only Hugging Face knows.
fn without_generation_marks(template: &str) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start + 2..start + length];
        let inner = tag.trim_matches(['-', '+']).trim();
        out.push_str(&rest[..start]);
        if inner == "generation" || inner == "endgeneration" {
            // An empty comment keeps the tag's white-space control.
            let (left, right) = (tag.starts_with('-'), tag.ends_with('-'));
            out.push_str(if left { "{#-" } else { "{#" });
            out.push_str(if right { "-#}" } else { "#}" });
        } else {
            out.push_str(&rest[start..start + length + 2]);
        }
        rest = &rest[start + length + 2..];
    }
    out.push_str(rest);
    out
}

/// `bos_token` and the like: texts, or objects with the text as `content`.
fn special_tokens(config: &Json) -> Vec<(String, String)> {
    ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token"]
        .into_iter()
        .filter_map(|name| {
            let token = config.get(name)?;
            let text = token.as_str().or_else(|| token.get("content")?.as_str())?;
            Some((name.to_owned(), text.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CHATML: &str = "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}\
        {%- if message.role == 'assistant' %}{% generation %}{{ message.content.strip() + '<|im_end|>' }}{% endgeneration %}\
        {%- else %}{{ message.content + '<|im_end|>' }}{%- endif %}{{ '\\n' }}{% endfor %}\
        {%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}";

    fn template(text: &str) -> ChatTemplate {
        ChatTemplate::compile(text, vec![("bos_token".into(), "<s>".into())]).unwrap()
    }

    #[test]
    fn answers_are_the_assistants_turns_with_their_end_and_without_the_templates_line_break() {
        let messages = [
            json!({"role": "user", "content": "2+2?"}),
            json!({"role": "assistant", "content": " four "}),
            json!({"role": "user", "content": "3+3?"}),
            json!({"role": "assistant", "content": "six"}),
        ];
        let rendered = template(CHATML).render(&messages, None).unwrap();
        let answers: Vec<&str> = rendered.answers.iter().map(|range| &rendered.text[range.clone()]).collect();
        assert_eq!(answers, ["four<|im_end|>", "six<|im_end|>"]);
        assert!(rendered.text.starts_with("<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\nfour"));
    }

    #[test]
    fn a_templates_own_refusal_is_the_message() {
        let refusing = template("{{ raise_exception('System role not supported') }}");
        let error = refusing.render(&[json!({"role": "system", "content": "x"})], None).unwrap_err();
        assert_eq!(error.to_string(), "the chat template says: System role not supported");
    }

    #[test]
    fn a_template_that_rewrites_the_past_is_refused() {
        let rewriting = template("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}");
        let messages = [json!({"role": "user", "content": "a"}), json!({"role": "assistant", "content": "b"})];
        assert!(matches!(rewriting.render(&messages, None), Err(ChatError::Unstable { message: 2 })));
    }
}
