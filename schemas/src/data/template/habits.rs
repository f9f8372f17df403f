//! What a template does around every answer, once that is known.

/// What a template does around every answer.
pub(super) struct Habits {
    /// It writes the beginning of another answer after the last one, asked for or not.
    pub(super) ignores_prompt: bool,
    /// What it writes before an answer, where it knows no prompt; else nothing.
    pub(super) unasked_header: String,
}
