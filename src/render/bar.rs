//! Bars of text.

/// Width of a chart's longest bar, in characters, where there is room for it.
pub(crate) const CHART: usize = 30;

/// A bar of eighths of a character, `width` characters at most.
pub(crate) fn bar(share: f64, width: usize) -> String {
    const PARTS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
    // The least is an eighth, so that every row has a bar.
    let eighths = ((share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize).max(1);
    let mut bar = "█".repeat(eighths / 8);
    bar.extend((eighths % 8).checked_sub(1).map(|part| PARTS[part]));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_by_eighths() {
        assert_eq!(bar(0.0, CHART), "▏");
        assert_eq!(bar(1.0, 12).chars().count(), 12);
        assert_eq!(bar(1.5 / CHART as f64, CHART), "█▌");
    }
}
