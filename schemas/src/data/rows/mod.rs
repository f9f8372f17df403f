//! The forms of a row.
//!
//! A row is one of
//! - `{"messages": [{"role", "content"}, …]}`, also as `conversations`, and with `from` and `value` as ShareGPT has
//!   them; with `tools`, `documents` and `chat_template_kwargs` if need be: the model's own chat template; the
//!   assistant's turns are the targets, but for those with `"weight": 0` or `"train": false`;
//! - `{"prompt", "completion"}`, the second also called `response`: texts that are tokenised as one, of which the
//!   completion is the target; or lists of messages, of which the assistant's in the completion are;
//! - `{"instruction", "output"}`, with `input` if there is one, as Alpaca has them: a conversation of one turn or, for a
//!   model without a chat template, a prompt in Alpaca's words; with `system` and `history` only for a chat template;
//! - `{"text"}`: all of it is a target;
//! - `{"input_ids", "labels"}`: tokens already; −100 where there is no target. Needs no tokenizer.
//!
//! A key whose value is null is as good as not there. Other keys are left alone, as data sets have columns of their own;
//! keys of two forms are an error, unless it is said which is to be read. `"weight": 0` leaves the whole row without a
//! target.

mod conversation;
mod error;
mod fields;
mod token_row;

use serde_json::{Map, Value as Json};

pub(super) use self::conversation::ConversationRow;
pub use self::error::RowError;
pub use self::token_row::IGNORED;
use crate::data::{RowForm, Target};

/// A row, read and not yet tokenised.
#[derive(Debug)]
pub(super) enum Row {
    /// Tokens and targets.
    Tokens(Vec<u32>, Vec<Target>),
    /// A text whose beginning is a prompt, maybe an empty one.
    Text {
        /// What the model is shown.
        prompt: String,
        /// What it is to say.
        completion: String,
    },
    /// A conversation.
    Conversation(ConversationRow),
    /// A conversation of one turn, which is a text where the model has no chat template.
    Instruction {
        /// For a chat template.
        conversation: ConversationRow,
        /// Without one.
        prompt: String,
        /// What follows the prompt.
        completion: String,
    },
    /// Nothing of it is to be a target.
    Weightless,
}

/// Reads a row in the form that it has or, where it may have several, in the one that is asked for.
pub(super) fn read(mut row: Map<String, Json>, form: Option<RowForm>, vocabulary: usize) -> Result<Row, RowError> {
    row.retain(|_, value| !value.is_null());
    if !fields::weight(&row)? {
        return Ok(Row::Weightless);
    }
    let keys = match form {
        Some(form) => Keys::of(form, &row).ok_or_else(|| incomplete(&row, &[form]))?,
        None => recognise(&row)?,
    };
    match keys {
        Keys::Tokens => token_row::read(&row, vocabulary).map(|(tokens, targets)| Row::Tokens(tokens, targets)),
        Keys::Messages(field) => conversation::from_messages(&row, field).map(Row::Conversation),
        Keys::Prompt(completion) => from_prompt(&row, completion),
        Keys::Instruction(output) => from_instruction(&row, output),
        Keys::Text => Ok(Row::Text { prompt: String::new(), completion: fields::text(&row, "text")?.to_owned() }),
    }
}

/// The keys by which a row has a form.
#[derive(Clone, Copy)]
enum Keys {
    Tokens,
    Messages(&'static str),
    Prompt(&'static str),
    Instruction(&'static str),
    Text,
}

const FORMS: [RowForm; 5] = [RowForm::Tokens, RowForm::Messages, RowForm::Prompt, RowForm::Instruction, RowForm::Text];

impl Keys {
    /// The keys of a form, where the row has all of them.
    fn of(form: RowForm, row: &Map<String, Json>) -> Option<Keys> {
        let first = |names: &[&'static str]| names.iter().copied().find(|name| row.contains_key(*name));
        let has = |name: &str| row.contains_key(name).then_some(());
        match form {
            RowForm::Tokens => has("input_ids").and(has("labels")).map(|()| Keys::Tokens),
            RowForm::Messages => first(&["messages", "conversations"]).map(Keys::Messages),
            RowForm::Prompt => has("prompt").and(first(&["completion", "response"])).map(Keys::Prompt),
            RowForm::Instruction => {
                has("instruction").and(first(&["output", "response", "completion"])).map(Keys::Instruction)
            }
            RowForm::Text => has("text").map(|()| Keys::Text),
        }
    }

    fn names(self) -> String {
        match self {
            Keys::Tokens => "`input_ids`".into(),
            Keys::Messages(field) => format!("`{field}`"),
            Keys::Prompt(completion) => format!("`prompt` with `{completion}`"),
            Keys::Instruction(output) => format!("`instruction` with `{output}`"),
            Keys::Text => "`text`".into(),
        }
    }
}

/// Two keys for the same part of a form, and a key by which the row has that form.
const SAID_TWICE: [[&str; 3]; 6] = [
    ["messages", "conversations", "messages"],
    ["completion", "response", "prompt"],
    ["output", "response", "instruction"],
    ["output", "completion", "instruction"],
    ["response", "completion", "instruction"],
    ["input", "context", "instruction"],
];

/// The one form that a row has.
fn recognise(row: &Map<String, Json>) -> Result<Keys, RowError> {
    if let Some([first, second, _]) = SAID_TWICE.iter().find(|keys| keys.iter().all(|key| row.contains_key(*key))) {
        return Err(RowError::TwoForms { first: format!("`{first}`"), second: format!("`{second}`") });
    }
    let mut found = FORMS.iter().filter_map(|form| Keys::of(*form, row));
    match (found.next(), found.next()) {
        (Some(keys), None) => Ok(keys),
        (Some(first), Some(second)) => Err(RowError::TwoForms { first: first.names(), second: second.names() }),
        (None, _) => Err(incomplete(row, &FORMS)),
    }
}

/// What a row lacks that has no whole form among those that it may have.
fn incomplete(row: &Map<String, Json>, forms: &[RowForm]) -> RowError {
    let lacks = |form: &RowForm| match form {
        RowForm::Tokens => row.contains_key("input_ids").then_some("labels"),
        RowForm::Prompt if row.contains_key("prompt") => Some("completion"),
        RowForm::Prompt => row.contains_key("completion").then_some("prompt"),
        RowForm::Instruction => row.contains_key("instruction").then_some("output"),
        RowForm::Messages | RowForm::Text => None,
    };
    if let Some(missing) = forms.iter().find_map(lacks) {
        return RowError::Missing(missing);
    }
    let keys: Vec<String> = row.keys().take(8).map(|key| format!("`{key}`")).collect();
    RowError::Form(if keys.is_empty() { "no keys".into() } else { keys.join(", ") })
}

fn from_prompt(row: &Map<String, Json>, completion: &'static str) -> Result<Row, RowError> {
    if row["prompt"].is_array() || row[completion].is_array() {
        return conversation::from_prompt(row, completion).map(Row::Conversation);
    }
    let (prompt, completion) = (fields::text(row, "prompt")?, fields::text(row, completion)?);
    Ok(Row::Text { prompt: prompt.to_owned(), completion: completion.to_owned() })
}

fn from_instruction(row: &Map<String, Json>, output: &'static str) -> Result<Row, RowError> {
    let instruction = fields::text(row, "instruction")?;
    let input = match fields::optional_text(row, "input")? {
        Some(input) => Some(input),
        None => fields::optional_text(row, "context")?,
    };
    let input = input.filter(|input| !input.is_empty());
    let question = input.map_or_else(|| instruction.to_owned(), |input| format!("{instruction}\n{input}"));
    Ok(Row::Instruction {
        conversation: conversation::from_instruction(row, question, output)?,
        prompt: alpaca_prompt(instruction, input),
        completion: fields::text(row, output)?.to_owned(),
    })
}

/// The words that Alpaca's models were trained with.
fn alpaca_prompt(instruction: &str, input: Option<&str>) -> String {
    let task = "Below is an instruction that describes a task";
    let request = "Write a response that appropriately completes the request.";
    match input {
        Some(input) => format!(
            "{task}, paired with an input that provides further context. {request}\n\n\
             ### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
        ),
        None => format!("{task}. {request}\n\n### Instruction:\n{instruction}\n\n### Response:\n"),
    }
}
