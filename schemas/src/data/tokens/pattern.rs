//! The patterns by which a tokenizer splits and replaces; a search that fails or does not end is an error.

use std::time::{Duration, Instant};

use fancy_regex::Regex;
use serde_json::Value as Json;
use tokenizers::pattern::Pattern as Search;

/// The longest pattern, in bytes; those of known tokenizers have a few hundred.
const MAX_LENGTH: usize = 1 << 16;
/// How large counted repetitions (`{1,3}`) of one pattern may become, multiplied: each is written out when compiled.
const MAX_REPETITIONS: u64 = 100_000;
/// How long one search may take, apart from what its text needs; a pattern that tracks back without end takes minutes.
const MAX_SEARCH: Duration = Duration::from_millis(500);
/// The fewest bytes a second that a pattern gets through.
const SLOWEST: usize = 1 << 20;

/// What tokenizers' functions return.
pub(super) type Outcome<T> = tokenizers::Result<T>;
/// Byte ranges that cover a text, and whether each is a match.
type Matches = Vec<((usize, usize), bool)>;

/// A text or a regular expression to search for.
pub(super) enum Pattern {
    /// A text as it stands, never empty.
    Text(String),
    /// A regular expression.
    Regex(Box<Regex>),
}

impl Pattern {
    /// Reads `{"String": …}` or `{"Regex": …}`.
    pub(super) fn read(json: &Json) -> Result<Pattern, String> {
        match (json.get("String").and_then(Json::as_str), json.get("Regex").and_then(Json::as_str)) {
            (Some(""), None) => Pattern::regex(""),
            (Some(text), None) => Ok(Pattern::Text(text.to_owned())),
            (None, Some(pattern)) => Pattern::regex(pattern),
            _ => Err("a pattern is neither a `String` nor a `Regex`".into()),
        }
    }

    /// Compiles a regular expression.
    pub(super) fn regex(pattern: &str) -> Result<Pattern, String> {
        if pattern.len() > MAX_LENGTH {
            return Err(format!("a pattern of {} bytes is longer than any tokenizer's", pattern.len()));
        }
        if repetitions(pattern) > MAX_REPETITIONS {
            return Err("a pattern repeats its parts too often".into());
        }
        let compiled = Regex::new(pattern).map_err(|error| format!("a pattern does not compile: {error}"))?;
        Ok(Pattern::Regex(Box::new(compiled)))
    }
}

impl Search for &Pattern {
    fn find_matches(&self, inside: &str) -> Outcome<Matches> {
        match self {
            _ if inside.is_empty() => Ok(vec![((0, 0), false)]),
            Pattern::Text(text) => {
                let found = inside.match_indices(text.as_str()).map(|(start, found)| Ok((start, start + found.len())));
                cover(inside, found)
            }
            Pattern::Regex(regex) => {
                let clock = Clock::start(inside.len());
                let found = regex.find_iter(inside).enumerate().map(|(i, found)| {
                    clock.check(i)?;
                    let found = found.map_err(|error| format!("a pattern fails on this text: {error}"))?;
                    Ok((found.start(), found.end()))
                });
                cover(inside, found)
            }
        }
    }
}

/// Matches and what lies between them, in order.
fn cover(inside: &str, found: impl Iterator<Item = Outcome<(usize, usize)>>) -> Outcome<Matches> {
    let mut matches = Matches::new();
    let mut end = 0;
    for next in found {
        let next = next?;
        if end != next.0 {
            matches.push(((end, next.0), false));
        }
        matches.push((next, true));
        end = next.1;
    }
    if end != inside.len() {
        matches.push(((end, inside.len()), false));
    }
    Ok(matches)
}

/// Bounds the time of one search.
struct Clock {
    start: Instant,
    allowed: Duration,
}

impl Clock {
    fn start(bytes: usize) -> Clock {
        Clock { start: Instant::now(), allowed: MAX_SEARCH + Duration::from_secs((bytes / SLOWEST) as u64) }
    }

    /// Looks at the clock at every sixteenth match: one search takes less time than looking does.
    fn check(&self, matches: usize) -> Outcome<()> {
        if matches % 16 == 15 && self.start.elapsed() > self.allowed {
            return Err("a pattern takes too long on this text".into());
        }
        Ok(())
    }
}

/// All counts in braces, multiplied: what nested repetitions would come to.
fn repetitions(pattern: &str) -> u64 {
    let counts = pattern.split('{').skip(1).filter_map(|rest| {
        let counts = rest.split('}').next()?;
        counts.rsplit(',').find(|count| !count.is_empty())?.parse::<u64>().ok()
    });
    counts.fold(1, |product, count| product.saturating_mul(count.max(1)))
}

/// Matches found before, handed to a function that searches by itself.
pub(super) struct Found(std::cell::Cell<Matches>);

impl Found {
    pub(super) fn new(matches: Matches) -> Found {
        Found(std::cell::Cell::new(matches))
    }
}

impl Search for Found {
    fn find_matches(&self, _: &str) -> Outcome<Matches> {
        Ok(self.0.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: Pattern, text: &str) -> Outcome<Matches> {
        (&pattern).find_matches(text)
    }

    #[test]
    fn matches_and_what_lies_between_them_cover_the_text() {
        let text = Pattern::Text(" ".into());
        let expected = vec![((0, 1), false), ((1, 2), true), ((2, 3), true), ((3, 4), false)];
        assert_eq!(found(text, "a  b").unwrap(), expected);
        assert_eq!(found(Pattern::regex(r"\s").unwrap(), "a  b").unwrap(), expected);
        assert_eq!(found(Pattern::regex("x").unwrap(), "").unwrap(), [((0, 0), false)]);
    }

    #[test]
    fn a_search_that_tracks_back_without_end_is_an_error() {
        let text = "a".repeat(64);
        let error = found(Pattern::regex(r"(?:a|a)*(?!a)b").unwrap(), &text).unwrap_err();
        assert!(error.to_string().starts_with("a pattern fails on this text"), "{error}");
    }

    #[test]
    fn a_pattern_that_is_written_out_millions_of_times_is_refused() {
        assert!(Pattern::regex("(?=(?:a{999}){999})").is_err());
        assert!(Pattern::regex(r"\p{L}{1,16}|\p{N}{1,3}| {2,}").is_ok());
    }
}
