//! The tokens that a tokenizer's post-processor puts around a text.

use serde::Deserialize;
use serde_json::Value as Json;
use tokenizers::{Encoding, PostProcessor, PostProcessorWrapper, Token};

/// The most pieces of a template, and the most post-processors in a row.
const MAX_PIECES: usize = 64;
/// Stands for the text; no vocabulary goes so far.
const TEXT: u32 = u32::MAX;

/// The tokens put before and after each text.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Around {
    pub(super) before: Vec<u32>,
    pub(super) after: Vec<u32>,
}

impl Around {
    /// Reads the `post_processor` of a tokenizer; `None` where there is none.
    pub(super) fn read(json: &Json) -> Result<Option<Around>, String> {
        if json.is_null() {
            return Ok(None);
        }
        check(json, &mut 0)?;
        let failed = |error: String| format!("its post-processor does not load: {error}");
        let processor = PostProcessorWrapper::deserialize(json).map_err(|error| failed(error.to_string()))?;
        let text = Encoding::from_tokens(vec![Token::new(TEXT, "text".into(), (0, 4))], 0);
        let whole = processor.process(text, None, true).map_err(|error| failed(error.to_string()))?;
        let mut parts = whole.get_ids().split(|&id| id == TEXT);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(before), Some(after), None) => Ok(Some(Around { before: before.to_vec(), after: after.to_vec() })),
            _ => Err("its post-processor does not write a text exactly once".into()),
        }
    }
}

/// Looks at what a post-processor writes before it writes: one text, and not many tokens.
fn check(json: &Json, processors: &mut usize) -> Result<(), String> {
    *processors += 1;
    let pieces = json.get("single").and_then(Json::as_array);
    let texts = pieces.map_or(1, |pieces| pieces.iter().filter(|piece| piece.get("Sequence").is_some()).count());
    if texts != 1 {
        return Err("its post-processor does not write a text exactly once".into());
    }
    if *processors > MAX_PIECES || pieces.is_some_and(|pieces| pieces.len() > MAX_PIECES) {
        return Err(format!("its post-processor has more than {MAX_PIECES} pieces"));
    }
    let special = json.get("special_tokens").and_then(Json::as_object);
    let ids = special.into_iter().flat_map(|tokens| tokens.values()).filter_map(|token| token.get("ids")?.as_array());
    if ids.map(Vec::len).any(|ids| ids > MAX_PIECES) {
        return Err(format!("its post-processor has a special token of more than {MAX_PIECES} tokens"));
    }
    let parts = json.get("processors").and_then(Json::as_array);
    parts.into_iter().flatten().try_for_each(|part| check(part, processors))
}
