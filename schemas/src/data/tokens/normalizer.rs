//! A tokenizer's normalizer, step by step: what it makes of a text is bounded, and its failures are errors.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use serde_json::Value as Json;
use tokenizers::pattern::Pattern as Search;
use tokenizers::{NormalizedString, Normalizer as Normalize, NormalizerWrapper};

use super::pattern::{Found, Outcome, Pattern};

/// The most steps of a normalizer.
const MAX_STEPS: usize = 256;
/// The longest text that a step puts before each text, in bytes.
const MAX_PREPENDED: usize = 1 << 10;
/// How often larger than its text a normalized text may become (compatibility forms write some characters as eleven), and
/// the bytes that every text may grow by.
const GROWTH: (usize, usize) = (16, 1 << 16);
/// The largest normalized text, in bytes.
const MAX_NORMALIZED: usize = 1 << 26;

enum Step {
    Replace { pattern: Pattern, content: String },
    Other(NormalizerWrapper),
}

/// The steps of a normalizer, in order.
#[derive(Default)]
pub(super) struct Normalizer(Vec<Step>);

impl Normalizer {
    /// Reads the `normalizer` of a tokenizer; null is none.
    pub(super) fn read(json: &Json) -> Result<Normalizer, String> {
        let mut steps = Vec::new();
        add_steps(json, &mut steps)?;
        Ok(Normalizer(steps))
    }

    /// The normalizer for one text of that many bytes; `None` where nothing is normalized.
    pub(super) fn bounded(&self, bytes: usize) -> Option<Bounded<'_>> {
        let left = bytes.saturating_mul(GROWTH.0).saturating_add(GROWTH.1).min(MAX_NORMALIZED);
        let steps = &self.0;
        (!steps.is_empty()).then(|| Bounded { steps, left: AtomicUsize::new(left), failure: OnceLock::new() })
    }
}

fn add_steps(json: &Json, steps: &mut Vec<Step>) -> Result<(), String> {
    if json.is_null() {
        return Ok(());
    }
    if let Some(parts) = json.get("normalizers").and_then(Json::as_array) {
        return parts.iter().try_for_each(|part| add_steps(part, steps));
    }
    if steps.len() == MAX_STEPS {
        return Err(format!("its normalizer has more than {MAX_STEPS} steps"));
    }
    if json.get("prepend").and_then(Json::as_str).is_some_and(|text| text.len() > MAX_PREPENDED) {
        return Err(format!("its normalizer puts more than {MAX_PREPENDED} bytes before each text"));
    }
    let replaces = json.get("pattern").zip(json.get("content").and_then(Json::as_str));
    steps.push(match replaces {
        Some((pattern, content)) => replacement(pattern, content)?,
        None => Step::Other(
            NormalizerWrapper::deserialize(json).map_err(|error| format!("its normalizer does not load: {error}"))?,
        ),
    });
    Ok(())
}

fn replacement(pattern: &Json, content: &str) -> Result<Step, String> {
    // Transformers fails on each text then.
    if pattern.get("String").and_then(Json::as_str) == Some("") {
        return Err("its normalizer replaces an empty text".into());
    }
    Ok(Step::Replace { pattern: Pattern::read(pattern)?, content: content.to_owned() })
}

/// A normalizer at work on one text, whose pieces share the bytes that may be made of it.
pub(super) struct Bounded<'a> {
    steps: &'a [Step],
    left: AtomicUsize,
    failure: OnceLock<String>,
}

impl Bounded<'_> {
    /// What went wrong; where added tokens are split off, errors of the normalizer are not handed on.
    pub(super) fn failure(self) -> Option<String> {
        self.failure.into_inner()
    }

    fn apply(&self, normalized: &mut NormalizedString) -> Outcome<()> {
        for step in self.steps {
            match step {
                Step::Replace { pattern, content } => self.replace(normalized, pattern, content)?,
                Step::Other(normalizer) => {
                    normalizer.normalize(normalized)?;
                    self.allow(normalized.len())?;
                }
            }
        }
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(normalized.len()), Ordering::Relaxed);
        Ok(())
    }

    /// Replaces matches after counting what that comes to, before memory is taken for it.
    fn replace(&self, normalized: &mut NormalizedString, pattern: &Pattern, content: &str) -> Outcome<()> {
        let matches = pattern.find_matches(normalized.get())?;
        let found = matches.iter().filter(|(_, is_match)| *is_match);
        let (count, removed) = found.fold((0_usize, 0), |(n, bytes), ((start, end), _)| (n + 1, bytes + (end - start)));
        self.allow((normalized.len() - removed).saturating_add(count.saturating_mul(content.len())))?;
        if count > 0 { normalized.replace(Found::new(matches), content) } else { Ok(()) }
    }

    fn allow(&self, bytes: usize) -> Outcome<()> {
        if bytes > self.left.load(Ordering::Relaxed) {
            Err("its normalizer makes too much of this text".into())
        } else {
            Ok(())
        }
    }
}

impl Normalize for Bounded<'_> {
    fn normalize(&self, normalized: &mut NormalizedString) -> Outcome<()> {
        if self.failure.get().is_some() {
            return Ok(());
        }
        let done = self.apply(normalized);
        if let Err(error) = &done {
            self.failure.get_or_init(|| error.to_string());
        }
        done
    }
}
