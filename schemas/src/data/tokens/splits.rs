//! A tokenizer's pre-tokenizer, step by step: where a text is split before the model sees it. Patterns that fail are errors.

use serde::Deserialize;
use serde_json::Value as Json;
use tokenizers::pattern::Invert;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{PreTokenizedString, PreTokenizer, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::pattern::{Outcome, Pattern};

/// The most steps of a pre-tokenizer.
const MAX_STEPS: usize = 64;

/// GPT-2's words, which `ByteLevel` splits by where it has no other pattern.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

enum Step {
    Split { pattern: Pattern, behavior: SplitDelimiterBehavior, invert: bool },
    PrefixSpace,
    Bytes,
    Other(PreTokenizerWrapper),
}

/// The steps of a pre-tokenizer, in order.
#[derive(Default)]
pub(super) struct Splits(Vec<Step>);

impl Splits {
    /// Reads the `pre_tokenizer` of a tokenizer; null is none.
    pub(super) fn read(json: &Json) -> Result<Splits, String> {
        let mut steps = Vec::new();
        add_steps(json, &mut steps)?;
        Ok(Splits(steps))
    }

    /// Splits a text further.
    pub(super) fn apply(&self, text: &mut PreTokenizedString) -> Outcome<()> {
        self.0.iter().try_for_each(|step| step.apply(text))
    }
}

impl Step {
    fn apply(&self, text: &mut PreTokenizedString) -> Outcome<()> {
        match self {
            Step::Split { pattern, behavior, invert: false } => text.split(|_, part| part.split(pattern, *behavior)),
            Step::Split { pattern, behavior, invert: true } => {
                text.split(|_, part| part.split(Invert(pattern), *behavior))
            }
            Step::PrefixSpace => text.normalize(|part| {
                if !part.get().starts_with(' ') {
                    part.prepend(" ");
                }
                Ok(())
            }),
            Step::Bytes => ByteLevel::new(false, false, false).pre_tokenize(text),
            Step::Other(splits) => splits.pre_tokenize(text),
        }
    }
}

fn add_steps(json: &Json, steps: &mut Vec<Step>) -> Result<(), String> {
    if json.is_null() {
        return Ok(());
    }
    if let Some(parts) = json.get("pretokenizers").and_then(Json::as_array) {
        return parts.iter().try_for_each(|part| add_steps(part, steps));
    }
    if steps.len() >= MAX_STEPS {
        return Err(format!("its pre-tokenizer has more than {MAX_STEPS} steps"));
    }
    match json.get("type").and_then(Json::as_str) {
        Some("Split") => steps.push(split(json)?),
        Some("ByteLevel") => add_byte_level(json, steps)?,
        Some("FixedLength") if json.get("length").and_then(Json::as_u64) == Some(0) => {
            return Err("its pre-tokenizer splits into pieces of length 0".into());
        }
        _ => steps.push(Step::Other(PreTokenizerWrapper::deserialize(json).map_err(failed)?)),
    }
    Ok(())
}

fn failed(error: impl std::fmt::Display) -> String {
    format!("its pre-tokenizer does not load: {error}")
}

fn split(json: &Json) -> Result<Step, String> {
    #[derive(Deserialize)]
    struct Split {
        pattern: Json,
        behavior: SplitDelimiterBehavior,
        invert: bool,
    }
    let split = Split::deserialize(json).map_err(failed)?;
    Ok(Step::Split { pattern: Pattern::read(&split.pattern)?, behavior: split.behavior, invert: split.invert })
}

fn add_byte_level(json: &Json, steps: &mut Vec<Step>) -> Result<(), String> {
    let settings = ByteLevel::deserialize(json).map_err(failed)?;
    if settings.add_prefix_space {
        steps.push(Step::PrefixSpace);
    }
    if settings.use_regex {
        let (pattern, behavior) = (Pattern::regex(WORDS)?, SplitDelimiterBehavior::Isolated);
        steps.push(Step::Split { pattern, behavior, invert: false });
    }
    steps.push(Step::Bytes);
    Ok(())
}
