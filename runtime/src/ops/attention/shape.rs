//! What of an attention no tensor shows: the factor of its scores and the window.

/// The shape of an attention that no tensor shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// What the scores are multiplied by before the softmax.
    pub scale: f64,
    /// A query sees itself and the `window − 1` places before it; all places before it where `None`.
    pub window: Option<usize>,
}

/// The first place that the query at `place` sees.
pub(in crate::ops) fn first_seen(place: usize, window: Option<usize>) -> usize {
    window.map_or(0, |window| (place + 1).saturating_sub(window))
}
