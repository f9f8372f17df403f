//! Where a slice begins and ends, and what it picks.

use minijinja::Error;

use crate::data::template::fault::failed;

/// The part of a text between two characters; the step is not looked at.
pub(crate) fn text_slice(text: &str, bounds: [Option<i64>; 3]) -> &str {
    let ascii = text.is_ascii();
    let length = if ascii { text.len() } else { text.chars().count() };
    let clamp = |bound: i64| {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let bound = if bound < 0 { bound.saturating_add(length) } else { bound };
        usize::try_from(bound.clamp(0, length)).unwrap_or(0)
    };
    let (start, stop) = (bounds[0].map_or(0, clamp), bounds[1].map_or(length, clamp));
    let byte = |at: usize| if ascii { at } else { text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte) };
    if start >= stop { "" } else { text.get(byte(start)..byte(stop)).unwrap_or_default() }
}

/// Where a slice begins, where it ends, and its step.
pub(crate) fn slice_bounds(length: usize, [start, stop, step]: [Option<i64>; 3]) -> Result<(i64, i64, i64), Error> {
    let (length, step) = (i64::try_from(length).unwrap_or(i64::MAX), step.unwrap_or(1));
    if step == 0 {
        return Err(failed("slice step cannot be zero"));
    }
    let (least, most) = if step < 0 { (-1, length - 1) } else { (0, length) };
    let clamp = |bound: i64| (if bound < 0 { bound.saturating_add(length) } else { bound }).clamp(least, most);
    let start = start.map_or(if step < 0 { most } else { least }, clamp);
    let stop = stop.map_or(if step < 0 { least } else { most }, clamp);
    Ok((start, stop, step))
}

/// The indices that a slice picks.
pub(crate) fn indices(length: usize, bounds: [Option<i64>; 3]) -> Result<Vec<usize>, Error> {
    let (start, stop, step) = slice_bounds(length, bounds)?;
    let mut picked = Vec::new();
    let mut at = start;
    while if step < 0 { at > stop } else { at < stop } {
        picked.extend(usize::try_from(at).ok());
        let Some(next) = at.checked_add(step) else { break };
        at = next;
    }
    Ok(picked)
}
