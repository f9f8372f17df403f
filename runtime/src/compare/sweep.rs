//! Which learning rates are tried.

use std::collections::BTreeMap;

/// The most rates that [`Rates::Auto`] tries.
const MOST: usize = 8;
/// Where full training of all layers begins, and LoRA on all layers.
const FULL: f64 = 2e-5;
const LORA: f64 = 2e-4;
/// Fewer trained layers want a larger rate, but not beyond this factor.
const LARGEST_FACTOR: f64 = 10.0;

/// Learning rates to try.
#[derive(Clone, Debug, PartialEq)]
pub enum Rates {
    /// Steps of about √10 (2e-5, 6e-5, 2e-4 …) from a rate that is usual for what is trained, on to where the loss on
    /// rows held back is least and larger on both sides.
    Auto,
    /// These, in their order.
    These(Vec<f64>),
}

impl Rates {
    /// Tries rates by their loss, of which an infinite one stands for a training that diverged.
    pub(super) fn sweep<E>(&self, start: i32, loss: &mut dyn FnMut(f64) -> Result<f64, E>) -> Result<(), E> {
        match self {
            Rates::These(rates) => rates.iter().try_for_each(|&rate| loss(rate).map(drop)),
            Rates::Auto => walk(start, loss),
        }
    }
}

/// Where to begin for so many trained layers of all: twice the rate for half of them.
pub(super) fn start(is_lora: bool, trained: usize, all: usize) -> i32 {
    let factor = (all as f64 / trained.max(1) as f64).min(LARGEST_FACTOR);
    let wanted = (factor * if is_lora { LORA } else { FULL }).ln();
    let distance = |index: &i32| (rate(*index).ln() - wanted).abs();
    (-10..=10).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
}

/// 2e-5 is that of index 0; the next ones are 6e-5, 2e-4, 6e-4 …
fn rate(index: i32) -> f64 {
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
    fn fewer_layers_and_adapters_begin_higher() {
        let first = |is_lora, trained| rate(start(is_lora, trained, 18));
        assert_eq!([first(false, 18), first(false, 9), first(false, 2), first(true, 18)], [2e-5, 6e-5, 2e-4, 2e-4]);
    }
}
