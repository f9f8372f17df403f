//! Which learning rates are tried.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The most rates that [`Rates::Auto`] tries.
const MOST: usize = 8;

/// Learning rates to try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rates {
    /// Steps of about √10 (2e-5, 6e-5, 2e-4 …) from a rate that is usual for what is trained, on to where the loss on
    /// rows held back is least and larger on both sides.
    Auto,
    /// These, in their order.
    These(Vec<f64>),
}

impl Rates {
    /// Tries rates by their loss, of which an infinite one stands for a training that diverged.
    pub(crate) fn sweep<E>(&self, start: i32, loss: &mut dyn FnMut(f64) -> Result<f64, E>) -> Result<(), E> {
        match self {
            Rates::These(rates) => rates.iter().try_for_each(|&rate| loss(rate).map(drop)),
            Rates::Auto => walk(start, loss),
        }
    }
}

/// The rate nearest to one that is expected to be good.
pub(crate) fn start(expected: f64) -> i32 {
    let distance = |index: &i32| (rate(*index).ln() - expected.ln()).abs();
    (-10..=10).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
}

/// 2e-5 is that of index 0; the next ones are 6e-5, 2e-4, 6e-4 …
pub(crate) fn rate(index: i32) -> f64 {
    let digit = if index.rem_euclid(2) == 0 { 2.0 } else { 6.0 };
    digit / 10f64.powi(5 - index.div_euclid(2))
}

/// Goes up while the best is the largest rate tried, then down while it is the smallest.
fn walk<E>(start: i32, loss: &mut dyn FnMut(f64) -> Result<f64, E>) -> Result<(), E> {
    let mut tried = BTreeMap::from([(start, loss(rate(start))?)]);
    for direction in [1, -1] {
        while tried.len() < MOST {
            let best = tried.iter().min_by(|a, b| a.1.total_cmp(b.1)).map_or(start, |(index, _)| *index);
            let next = best + direction;
            if tried.contains_key(&next) {
                break;
            }
            tried.insert(next, loss(rate(next))?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates that are tried where one of them is the best, and from another on trainings diverge.
    fn tried(start: i32, best: f64, diverges: f64) -> Vec<f64> {
        let mut rates = Vec::new();
        let mut loss = |rate: f64| {
            rates.push(rate);
            Ok::<f64, ()>(if rate < diverges { (rate.ln() - best.ln()).abs() } else { f64::INFINITY })
        };
        Rates::Auto.sweep(start, &mut loss).unwrap();
        rates
    }

    #[test]
    fn a_sweep_stops_where_both_neighbours_are_worse() {
        assert_eq!(tried(0, 2e-5, 1.0), [2e-5, 6e-5, 6e-6]);
        assert_eq!(tried(0, 2e-4, 1.0), [2e-5, 6e-5, 2e-4, 6e-4]);
        assert_eq!(tried(2, 2e-5, 1.0), [2e-4, 6e-4, 6e-5, 2e-5, 6e-6]);
        assert_eq!(tried(2, 6e-5, 1e-4), [2e-4, 6e-4, 6e-5, 2e-5]);
    }

    #[test]
    fn a_sweep_ends() {
        assert_eq!(tried(0, 1e9, 1e12).len(), MOST);
        assert_eq!(tried(0, 1.0, 0.0).len(), MOST);
    }

    #[test]
    fn rates_given_are_all_tried() {
        let mut rates = Vec::new();
        let mut loss = |rate| {
            rates.push(rate);
            Ok::<f64, ()>(0.0)
        };
        Rates::These(vec![3e-4, 1e-5]).sweep(0, &mut loss).unwrap();
        assert_eq!(rates, [3e-4, 1e-5]);
    }

    #[test]
    fn a_sweep_begins_near_what_is_expected() {
        assert_eq!([2e-5, 4e-5, 1.8e-4, 1e-3].map(|expected| rate(start(expected))), [2e-5, 6e-5, 2e-4, 6e-4]);
    }
}
