//! How an attention scores keys: factor, cap and window, which no tensor shows.

/// How an attention scores keys: what of it no tensor shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scoring {
    /// What the scores are multiplied by before the softmax.
    pub scale: f64,
    /// Scaled scores `s` become `cap · tanh(s / cap)`, where there is a cap.
    pub softcap: Option<f64>,
    /// A query sees itself and the `window − 1` positions before it; all positions before it where `None`.
    pub window: Option<usize>,
}

/// The first position that the query at `position` sees.
pub(in crate::ops) fn first_seen(position: usize, window: Option<usize>) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window))
}
