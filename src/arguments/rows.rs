//! How rows are read, for every command that reads them, and the command that shows what they come to.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use frostline_schemas::data::{BadRows, EndOfText, RowForm, RowSettings, TemplateSettings};
use serde_json::Value as Json;

use super::values::at_least_one;

/// How rows become examples.
#[derive(Args)]
pub(crate) struct RowArguments {
    /// Tokens of an example; what goes beyond is cut off [default: the plan's or run's, 512 where there is none].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_length: Option<usize>,
    /// Whether the end-of-sequence token follows completions and texts, as a target; `auto`: where completions are
    /// answers, not labels. Conversations end as their template ends them.
    #[arg(long, value_enum, default_value_t = EosName::Auto)]
    eos: EosName,
    /// The form of the rows, where they have the keys of several.
    #[arg(long = "row-form", value_enum)]
    form: Option<FormName>,
    /// The chat template to use, where the model has several [default: `tool_use` for rows with tools, else `default`].
    #[arg(long, value_name = "NAME")]
    chat_template: Option<String>,
    /// A variable for the chat template, as enable_thinking=false; the value is JSON or else a text. May be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    template_variable: Vec<TemplateVariable>,
    /// The date to tell a chat template that asks for today's, as 2026-01-31 [default: today].
    #[arg(long, value_name = "DATE", value_parser = date)]
    date: Option<jiff::civil::Date>,
    /// What is done with rows that cannot be read.
    #[arg(long, value_enum, default_value_t = BadRowName::Stop)]
    on_bad_row: BadRowName,
}

#[derive(Clone, Copy, ValueEnum)]
enum EosName {
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormName {
    /// `input_ids` and `labels`.
    Tokens,
    /// `messages` or `conversations`.
    Messages,
    /// `prompt` and `completion` or `response`.
    Prompt,
    /// `instruction` and `output`.
    Instruction,
    /// `text`.
    Text,
}

#[derive(Clone, Copy, ValueEnum)]
enum BadRowName {
    /// The first is an error.
    Stop,
    /// They are left out, counted and named.
    Skip,
}

/// A variable for a chat template.
#[derive(Clone)]
struct TemplateVariable {
    name: String,
    value: Json,
}

impl FromStr for TemplateVariable {
    type Err = String;

    fn from_str(text: &str) -> Result<TemplateVariable, String> {
        let (name, value) = text.split_once('=').ok_or("a name, `=` and a value are expected")?;
        if name.is_empty() || name.contains(|c: char| c != '_' && !c.is_alphanumeric()) {
            return Err(format!("`{name}` is no name of a variable"));
        }
        let value = serde_json::from_str(value).unwrap_or_else(|_| Json::String(value.into()));
        Ok(TemplateVariable { name: name.into(), value })
    }
}

fn date(text: &str) -> Result<jiff::civil::Date, String> {
    text.parse().map_err(|_| "a date is written as 2026-01-31".into())
}

impl RowArguments {
    /// The settings.
    pub(crate) fn settings(&self) -> RowSettings {
        RowSettings {
            max_length: self.max_length,
            eos: match self.eos {
                EosName::Auto => EndOfText::Auto,
                EosName::Always => EndOfText::Always,
                EosName::Never => EndOfText::Never,
            },
            form: self.form.map(|form| match form {
                FormName::Tokens => RowForm::Tokens,
                FormName::Messages => RowForm::Messages,
                FormName::Prompt => RowForm::Prompt,
                FormName::Instruction => RowForm::Instruction,
                FormName::Text => RowForm::Text,
            }),
            bad_rows: match self.on_bad_row {
                BadRowName::Stop => BadRows::Stop,
                BadRowName::Skip => BadRows::Skip,
            },
            template: TemplateSettings {
                name: self.chat_template.clone(),
                date: self.date,
                variables: self
                    .template_variable
                    .iter()
                    .map(|given| (given.name.clone(), given.value.clone()))
                    .collect(),
            },
        }
    }
}

/// Flags of `frostline rows`.
#[derive(Args)]
pub(crate) struct RowsArguments {
    #[command(flatten, next_help_heading = "Files")]
    pub files: RowsFiles,
    #[command(flatten, next_help_heading = "Examples")]
    pub rows: RowArguments,
    #[command(flatten, next_help_heading = "What is shown")]
    pub shown: RowsShown,
}

/// What is read.
#[derive(Args)]
pub(crate) struct RowsFiles {
    /// Model folder; its weights are not needed.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Rows: JSONL, a JSON array, Parquet or Arrow, also compressed by gzip or zstd.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
}

/// What is shown of them.
#[derive(Args)]
pub(crate) struct RowsShown {
    /// Show the tokens of the first N rows, or of `all`.
    #[arg(long, value_name = "N", default_value = "3")]
    pub show: Show,
}

/// How many rows are shown.
#[derive(Clone, Copy)]
pub(crate) struct Show(pub usize);

impl FromStr for Show {
    type Err = String;

    fn from_str(text: &str) -> Result<Show, String> {
        match text {
            "all" => Ok(Show(usize::MAX)),
            _ => text.parse().map(Show).map_err(|_| "a number or `all` is expected".into()),
        }
    }
}
