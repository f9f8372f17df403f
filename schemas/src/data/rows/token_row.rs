//! Rows that are tokens already.

use serde_json::{Map, Value as Json};

use super::RowError;
use super::fields::integers;
use crate::data::Target;

/// What stands in `labels` where there is no target, as everywhere in PyTorch.
pub const IGNORED: i64 = -100;

/// Tokens and targets of `input_ids` and `labels`, without the padding that an `attention_mask` hides.
pub(super) fn read(row: &Map<String, Json>, vocabulary: usize) -> Result<(Vec<u32>, Vec<Target>), RowError> {
    let ids = integers(row, "input_ids")?;
    let mut labels = integers(row, "labels")?;
    if labels.len() != ids.len() {
        return Err(RowError::Lengths { labels: labels.len(), tokens: ids.len() });
    }
    let outside = |token| RowError::Vocabulary { token, vocabulary };
    let mut tokens =
        ids.iter().map(|&id| u32::try_from(id).map_err(|_| outside(id))).collect::<Result<Vec<u32>, _>>()?;
    if row.contains_key("attention_mask") {
        let seen = visible_positions(&integers(row, "attention_mask")?, tokens.len())?;
        tokens.truncate(seen);
        labels.truncate(seen);
    }
    let mut targets = Vec::new();
    for (position, &label) in labels.iter().enumerate().filter(|(_, label)| **label != IGNORED) {
        let token = u32::try_from(label).map_err(|_| outside(label))?;
        // Nothing predicts the first token.
        if let Some(before) = position.checked_sub(1) {
            targets.push(Target { position: before as u32, token });
        }
    }
    Ok((tokens, targets))
}

/// How many positions an attention mask shows; all of them must come before those that it hides.
fn visible_positions(mask: &[i64], tokens: usize) -> Result<usize, RowError> {
    let seen = mask.iter().take_while(|&&shown| shown != 0).count();
    let hidden_only = mask[seen..].iter().all(|&shown| shown == 0);
    if mask.len() == tokens && hidden_only { Ok(seen) } else { Err(RowError::Mask) }
}
