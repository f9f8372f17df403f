//! Names: those that exporters give a model's inputs, and whether names are unique.

use std::collections::HashSet;

/// The input of token ids.
pub(crate) const INPUT_IDS: &str = "input_ids";
/// The input that tells tokens from padding.
pub(crate) const ATTENTION_MASK: &str = "attention_mask";
/// The input of the tokens' positions in their rows.
pub(crate) const POSITION_IDS: &str = "position_ids";
/// Inputs that engines are fed.
pub(crate) const FED: [&str; 3] = [INPUT_IDS, ATTENTION_MASK, POSITION_IDS];

/// The first name that appears twice.
pub(crate) fn duplicate<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}
