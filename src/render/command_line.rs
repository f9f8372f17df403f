//! Commands that can be typed as they stand.

use std::path::Path;

/// This program, by the name that it was called by, with these arguments.
pub(crate) fn command_line(arguments: &[&str]) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "frostline".into());
    let words = std::iter::once(program.as_str()).chain(arguments.iter().copied());
    words.map(quoted).collect::<Vec<String>>().join(" ")
}

/// A path as an argument.
pub(crate) fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_string_lossy().into_owned()
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+%@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        let said = ["a/b.json", "", "my model", "it's"].map(quoted);
        assert_eq!(said, ["a/b.json", "''", "'my model'", r"'it'\''s'"]);
    }
}
