//! Training rows of which some are held back.

use frostline_schemas::data::Example;
use frostline_schemas::select::sample;

use crate::error::Error;

/// Set apart from the seed of whatever else is sampled: rows that a plan was made with are not the ones held back.
const STREAM: u64 = 0x6865_6c64_206f_7574;

/// Rows to train on, and rows held back to choose by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Rows to train on, in their order.
    pub trained: Vec<Example>,
    /// Rows held back, in their order; at least one.
    pub held_out: Vec<Example>,
}

impl Split {
    /// Holds back a share of the rows, drawn by a seed; rows with the same tokens stay together, so that none is both
    /// trained on and held back.
    ///
    /// # Errors
    /// [`Error::Setting`] for a share that is not between 0 and 1, and where there are fewer than two different rows.
    pub fn new(rows: Vec<Example>, share: f64, seed: u64) -> Result<Split, Error> {
        if !(share > 0.0 && share < 1.0) {
            let reason = "it must be above 0 and below 1";
            return Err(Error::Setting { field: "held_out", value: share.to_string(), reason });
        }
        let mut tokens: Vec<&[u32]> = rows.iter().map(|row| row.tokens.as_slice()).collect();
        tokens.sort_unstable();
        tokens.dedup();
        if tokens.len() < 2 {
            let reason = "a part of the rows is held back, and of fewer than two different ones none can be";
            return Err(Error::Setting { field: "examples", value: rows.len().to_string(), reason });
        }
        let count = ((tokens.len() as f64 * share).round() as usize).clamp(1, tokens.len() - 1);
        let chosen = sample(tokens.len(), count, seed ^ STREAM);
        let is_held: Vec<bool> = {
            let held: Vec<&[u32]> = chosen.into_iter().filter_map(|index| tokens.get(index).copied()).collect();
            rows.iter().map(|row| held.binary_search(&row.tokens.as_slice()).is_ok()).collect()
        };
        let (held_out, trained): (Vec<_>, Vec<_>) = rows.into_iter().zip(is_held).partition(|(_, held)| *held);
        let rows = |part: Vec<(Example, bool)>| part.into_iter().map(|(row, _)| row).collect();
        Ok(Split { trained: rows(trained), held_out: rows(held_out) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: u32) -> Vec<Example> {
        (0..count).map(|row| Example::new(u64::from(row) + 1, vec![row, 1], Vec::new())).collect()
    }

    #[test]
    fn a_share_is_held_back_and_the_seed_says_which() {
        let split = |seed| Split::new(rows(50), 0.1, seed).unwrap();
        let Split { trained, held_out } = split(3);
        assert_eq!((trained.len(), held_out.len()), (45, 5));
        assert!(held_out.iter().all(|row| !trained.contains(row)));
        assert!(trained.is_sorted_by_key(|row| row.line) && held_out.is_sorted_by_key(|row| row.line));
        assert_eq!(split(3), split(3));
        assert_ne!(split(3), split(4));
    }

    #[test]
    fn equal_rows_are_not_parted() {
        let twice = [rows(10), rows(10)].concat();
        let Split { trained, held_out } = Split::new(twice, 0.3, 0).unwrap();
        assert_eq!((trained.len(), held_out.len()), (14, 6));
        assert!(held_out.iter().all(|row| trained.iter().all(|other| other.tokens != row.tokens)));
    }

    #[test]
    fn rows_that_cannot_be_split_are_an_error() {
        let said = |count, share| Split::new(rows(count), share, 0).unwrap_err().to_string();
        assert!(said(1, 0.1).starts_with("examples is 1: a part of the rows is held back"));
        for share in [0.0, 1.0, -0.5, f64::NAN] {
            assert!(said(9, share).contains("held out is"), "{share}");
        }
        assert_eq!(Split::new(rows(2), 0.01, 0).unwrap().held_out.len(), 1);
    }
}
