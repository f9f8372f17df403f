//! A part of work that several machines share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Shard K of N, counted from 1; written `K/N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    number: usize,
    of: usize,
}

/// Text that names no [`Shard`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no shard; write K/N with K from 1 to N, such as 3/16")]
pub struct NotAShard(String);

impl Shard {
    /// The one shard of a machine that is alone.
    pub const WHOLE: Shard = Shard { number: 1, of: 1 };

    /// Shard `number` of `of`; `None` where `number` is not from 1 to `of`.
    pub fn new(number: usize, of: usize) -> Option<Shard> {
        (1..=of).contains(&number).then_some(Shard { number, of })
    }

    /// Which one it is, from 1.
    pub fn number(self) -> usize {
        self.number
    }

    /// How many there are.
    pub fn of(self) -> usize {
        self.of
    }

    /// The shard's part of things that are dealt out one by one in their order; none where there are more shards than
    /// things. Every thing is in exactly one shard.
    pub fn deal<T>(self, things: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
        things.into_iter().skip(self.number - 1).step_by(self.of)
    }

    /// Of the shards of which `is_there` says no, the first few for people; `None` where all are there. `there` is how many
    /// are.
    pub fn missing(self, there: usize, is_there: impl Fn(usize) -> bool) -> Option<String> {
        const NAMED: usize = 8;
        let count = self.of.saturating_sub(there);
        // Ends after as many steps as there are shards there, and a few: a number of shards is only what a file says.
        let named = (1..=self.of).filter(|&number| !is_there(number)).take(NAMED.min(count));
        let named: Vec<String> = named.map(|number| number.to_string()).collect();
        match count.saturating_sub(named.len()) {
            _ if count == 0 => None,
            0 => Some(named.join(", ")),
            more => Some(format!("{} and {more} more", named.join(", "))),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = NotAShard;

    fn from_str(text: &str) -> Result<Shard, NotAShard> {
        let numbers = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        let shard = numbers.and_then(|(number, of)| Shard::new(number, of));
        shard.ok_or_else(|| NotAShard(text.chars().take(100).collect()))
    }
}

impl TryFrom<String> for Shard {
    type Error = NotAShard;

    fn try_from(text: String) -> Result<Shard, NotAShard> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> String {
        shard.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_dealt_one_by_one() {
        let dealt = |number, of| Shard::new(number, of).unwrap().deal(0..5).collect::<Vec<_>>();
        assert_eq!([dealt(1, 2), dealt(2, 2)], [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!((dealt(1, 1).len(), dealt(7, 8).len()), (5, 0));
    }

    #[test]
    fn shards_that_are_missing_are_named() {
        let missing =
            |of, there: &[usize]| Shard::new(1, of).unwrap().missing(there.len(), |number| there.contains(&number));
        assert_eq!(missing(2, &[1, 2]), None);
        assert_eq!(missing(4, &[3, 1]).as_deref(), Some("2, 4"));
        assert!(missing(usize::MAX, &[1]).unwrap().starts_with("2, 3, 4, 5, 6, 7, 8, 9 and "));
    }

    #[test]
    fn shards_are_written_as_fractions() {
        let shard: Shard = "3/16".parse().unwrap();
        assert_eq!((shard.number(), shard.of(), shard.to_string()), (3, 16, "3/16".into()));
        for bad in ["", "3", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "a/b", " 1/2", "1/99999999999999999999999"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }
}
