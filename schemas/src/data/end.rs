//! The end of texts: whether the end-of-sequence token follows a file's completions.

use std::collections::HashSet;

use super::tokenise::{TextEnd, Tokeniser};
use crate::data::{EndOfText, ExampleError, Examples, SpecialTokens};

/// The most distinct completions that are taken for labels.
pub const MAX_LABELS: usize = 64;

/// Whether so many distinct completions of so many rows are labels.
pub(super) fn are_labels(distinct: usize, rows: usize) -> bool {
    distinct > 1 && distinct <= MAX_LABELS && distinct.saturating_mul(2) <= rows
}

/// What decided whether the end-of-sequence token follows a file's completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndBy {
    /// The settings.
    Settings,
    /// Completions are answers, to be generated: it follows.
    Answers,
    /// Completions are labels, to be ranked: it does not.
    Labels,
    /// Completions are all alike, and so tell nothing: what the tokenizer puts before texts.
    Tokenizer,
    /// The model names no such token.
    NoToken,
}

/// What is known of the ends of a file's texts.
#[derive(Default)]
pub(super) struct EndOfTexts {
    /// With the index of their example, in order.
    texts: Vec<(usize, TextEnd)>,
    distinct: HashSet<u64>,
}

impl EndOfTexts {
    pub(super) fn add(&mut self, example: usize, text: TextEnd) {
        if !text.empty {
            self.distinct.insert(text.completion);
        }
        self.texts.push((example, text));
    }

    /// Whether an example's completion is empty.
    pub(super) fn is_empty(&self, example: usize) -> bool {
        self.texts.binary_search_by_key(&example, |(index, _)| *index).is_ok_and(|at| self.texts[at].1.empty)
    }

    /// Puts the end-of-sequence token behind texts where that is asked for, and says whether it was and why; none where
    /// there are no texts.
    pub(super) fn apply(
        &self,
        examples: &mut Examples,
        tokeniser: &Tokeniser,
    ) -> Result<Option<(bool, EndBy)>, ExampleError> {
        if self.texts.is_empty() {
            return Ok(None);
        }
        let (asked, special) = (tokeniser.settings.eos, tokeniser.encoder.special_tokens()?);
        let (wanted, by) = match asked {
            EndOfText::Always => (true, EndBy::Settings),
            EndOfText::Never => (false, EndBy::Settings),
            EndOfText::Auto => self.decide(special),
        };
        for &(index, text) in &self.texts {
            let Some(example) = examples.examples.get_mut(index) else { continue };
            // With `Always` an empty completion is one that says nothing and ends.
            let follows = wanted && !text.ended && (!text.empty || asked == EndOfText::Always);
            if follows {
                example.end_with(tokeniser.end()?, examples.max_length);
                examples.ended += u64::from(example.ended);
            } else {
                example.ended = text.ended && !example.cut;
            }
        }
        Ok(Some((wanted, by)))
    }

    /// Whether completions are answers to be generated, not labels to be ranked: see
    /// [`RowsAsRead::eos`](crate::data::RowsAsRead::eos).
    fn decide(&self, special: &SpecialTokens) -> (bool, EndBy) {
        let (distinct, rows) = (self.distinct.len(), self.texts.iter().filter(|(_, text)| !text.empty).count());
        if are_labels(distinct, rows) {
            return (false, EndBy::Labels);
        }
        match special.eos() {
            None => (false, EndBy::NoToken),
            Some(_) if distinct > 1 => (true, EndBy::Answers),
            Some(_) => (special.adds_bos != Some(true), EndBy::Tokenizer),
        }
    }
}
