//! How rows become examples, beyond what the model's folder says, and what a plan or a run binds of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::data::TemplateSettings;

/// How rows become examples.
#[derive(Clone, Debug, PartialEq)]
pub struct RowSettings {
    /// Tokens of an example at most; what goes beyond is cut off. Where none is given,
    /// [`DEFAULT_MAX_LENGTH`](RowSettings::DEFAULT_MAX_LENGTH).
    pub max_length: Option<usize>,
    /// Whether the end-of-sequence token follows completions and texts.
    pub eos: EndOfText,
    /// What rows are read as; where it is none, as the form whose keys they have.
    pub form: Option<RowForm>,
    /// What is done with rows that cannot be read.
    pub bad_rows: BadRows,
    /// How conversations are rendered.
    pub template: TemplateSettings,
}

impl Default for RowSettings {
    fn default() -> RowSettings {
        RowSettings::new()
    }
}

/// Whether the end-of-sequence token follows completions and texts, as a target. Conversations end as their template
/// ends them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndOfText {
    /// Where the file's completions are answers and not labels: see [`RowsAsRead::eos`].
    #[default]
    Auto,
    /// It does.
    Always,
    /// It does not, unless the tokenizer itself ends texts with it.
    Never,
}

/// What is done with rows that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadRows {
    /// The first is an error.
    #[default]
    Stop,
    /// They are left out, counted and named.
    Skip,
}

/// The forms that rows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RowForm {
    /// `input_ids` and `labels`.
    Tokens,
    /// `messages` or `conversations`.
    Messages,
    /// `prompt` and `completion` or `response`, as texts or as messages.
    Prompt,
    /// `instruction` and `output`, with `input` if need be.
    Instruction,
    /// `text`.
    Text,
}

/// How a file's rows were read: what, beside the rows and the model's folder, their tokens follow from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RowsAsRead {
    /// Whether the end-of-sequence token was put after completions and texts; none where there were none to put it after.
    ///
    /// Left to itself it is where completions are answers: more than [`MAX_LABELS`](crate::data::MAX_LABELS) of the
    /// file's completions are distinct, or more than half of them. Few that recur are labels, to be ranked rather than
    /// generated. Where there is only one, or only empty ones, it is unless the tokenizer puts the beginning-of-sequence
    /// token before texts: such a tokenizer says itself what ends them. Never where the model names no such token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos: Option<bool>,
    /// The form that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<RowForm>,
    /// The name of the chat template that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// The date that the chat template was told, as 2026-01-31; none where it did not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Variables that the chat template was given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub template_variables: BTreeMap<String, Json>,
}

impl RowsAsRead {
    /// Whether nothing is bound.
    pub fn is_default(&self) -> bool {
        *self == RowsAsRead::default()
    }
}

/// Settings that ask for rows to be read otherwise than they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: its rows were read with {what} {bound}, and {asked} is asked for; leave that out, or plan anew", by.display())]
pub struct OtherRows {
    by: PathBuf,
    /// The setting.
    pub setting: &'static str,
    what: &'static str,
    bound: String,
    asked: String,
}

impl RowSettings {
    /// Tokens of an example at most, where nothing else is asked for.
    pub const DEFAULT_MAX_LENGTH: usize = 512;

    /// Settings that leave everything open.
    pub const fn new() -> RowSettings {
        RowSettings {
            max_length: None,
            eos: EndOfText::Auto,
            form: None,
            bad_rows: BadRows::Stop,
            template: TemplateSettings { name: None, date: None, variables: BTreeMap::new() },
        }
    }

    /// The same for examples of at most so many tokens.
    pub fn up_to(max_length: usize) -> RowSettings {
        RowSettings { max_length: Some(max_length), ..RowSettings::new() }
    }

    /// Tokens of an example at most.
    pub fn max_length(&self) -> usize {
        self.max_length.unwrap_or(RowSettings::DEFAULT_MAX_LENGTH)
    }

    /// These settings with everything that they leave open as rows were `read` before, up to `max_length` tokens of each,
    /// as the file `by` says. Another length may be asked for: it only cuts.
    ///
    /// # Errors
    /// [`OtherRows`] where they ask for something else.
    pub fn bound_by(mut self, read: &RowsAsRead, max_length: usize, by: &Path) -> Result<RowSettings, OtherRows> {
        let same = |setting, what, asked: Option<String>, bound: Option<String>| match asked {
            Some(asked) if bound.as_ref() != Some(&asked) => {
                let bound = bound.unwrap_or_else(|| "left out".into());
                Err(OtherRows { by: by.into(), setting, what, bound, asked })
            }
            _ => Ok(()),
        };
        self.max_length.get_or_insert(max_length);
        if let Some(bound) = read.eos {
            let bound = if bound { EndOfText::Always } else { EndOfText::Never };
            same("eos", "the end-of-sequence token", self.eos.asked(), bound.asked())?;
            self.eos = bound;
        }
        let form = |form: Option<RowForm>| form.map(|form| json_text(&form));
        same("form", "the form", form(self.form), form(read.form))?;
        self.form = read.form;
        let template = &mut self.template;
        same("chat_template", "the chat template", template.name.clone(), read.chat_template.clone())?;
        template.name.clone_from(&read.chat_template);
        if let Some(bound) = &read.date {
            same("date", "the date", template.date.map(|date| date.to_string()), Some(bound.clone()))?;
            template.date = bound.parse().ok().or(template.date);
        }
        let variables = |of: &BTreeMap<String, Json>| (!of.is_empty()).then(|| json_text(of));
        let (asked, bound) = (variables(&template.variables), variables(&read.template_variables));
        same("template_variable", "the template's variables", asked, bound)?;
        template.variables.clone_from(&read.template_variables);
        Ok(self)
    }
}

impl EndOfText {
    fn asked(self) -> Option<String> {
        match self {
            EndOfText::Auto => None,
            EndOfText::Always => Some("always".into()),
            EndOfText::Never => Some("never".into()),
        }
    }
}

fn json_text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> RowsAsRead {
        RowsAsRead {
            eos: Some(true),
            date: Some("2026-01-31".into()),
            template_variables: [("enable_thinking".to_owned(), Json::Bool(false))].into(),
            ..RowsAsRead::default()
        }
    }

    #[test]
    fn what_is_left_open_is_read_as_before() {
        let settings = RowSettings::default().bound_by(&bound(), 64, Path::new("plan.json")).unwrap();
        assert_eq!(settings.eos, EndOfText::Always);
        assert_eq!(settings.template.date.unwrap().to_string(), "2026-01-31");
        assert_eq!(settings.template.variables, bound().template_variables);
        assert_eq!(settings.clone().bound_by(&bound(), 64, Path::new("plan.json")), Ok(settings));
    }

    #[test]
    fn what_is_asked_for_otherwise_is_refused_by_its_setting() {
        let refused =
            |settings: RowSettings| settings.bound_by(&bound(), 64, Path::new("plan.json")).unwrap_err().setting;
        let template = |template| RowSettings { template, ..RowSettings::default() };
        assert_eq!(refused(RowSettings { eos: EndOfText::Never, ..RowSettings::default() }), "eos");
        assert_eq!(refused(RowSettings { form: Some(RowForm::Text), ..RowSettings::default() }), "form");
        let date = Some("2026-02-01".parse().unwrap());
        assert_eq!(refused(template(TemplateSettings { date, ..TemplateSettings::default() })), "date");
        let name = Some("tool_use".into());
        assert_eq!(refused(template(TemplateSettings { name, ..TemplateSettings::default() })), "chat_template");
        let variables = [("a".to_owned(), Json::Null)].into();
        let other = template(TemplateSettings { variables, ..TemplateSettings::default() });
        assert_eq!(refused(other), "template_variable");
    }
}
