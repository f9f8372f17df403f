//! Evidence for a choice: a number for each layer or tensor, and what it was computed from.
//!
//! Any signal fills them and any chooser reads them: gains of layers from a forward pass, signal over noise of tensors from
//! their weights, and what is measured with gradients or by probes.

use std::fmt;

/// What scores were computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreOrigin {
    /// Hidden states of a forward pass.
    ForwardPass,
    /// The weights alone.
    Weights,
    /// Gradients of a loss.
    Gradients,
    /// Small models trained on hidden states.
    Probes,
}

impl fmt::Display for ScoreOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ScoreOrigin::ForwardPass => "forward pass",
            ScoreOrigin::Weights => "weights",
            ScoreOrigin::Gradients => "gradients",
            ScoreOrigin::Probes => "probes",
        })
    }
}

/// Which of two equal scores comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// The one nearer to the input.
    LowerFirst,
    /// The one nearer to the output: a gradient reaches it for less.
    UpperFirst,
}

/// A score for each of some layers (by their number, from 1) or tensors (by their name), from the input up. Larger is better.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores<Item> {
    origin: ScoreOrigin,
    scores: Vec<(Item, f64)>,
}

impl Scores<usize> {
    /// Scores of layers 1, 2, 3 and so on.
    pub fn of_layers(origin: ScoreOrigin, scores: impl IntoIterator<Item = f64>) -> Scores<usize> {
        Scores::new(origin, (1..).zip(scores))
    }
}

impl<Item> Scores<Item> {
    /// Scores of items that are given from the input up.
    pub fn new(origin: ScoreOrigin, scores: impl IntoIterator<Item = (Item, f64)>) -> Scores<Item> {
        Scores { origin, scores: scores.into_iter().collect() }
    }

    /// What they were computed from.
    pub fn origin(&self) -> ScoreOrigin {
        self.origin
    }

    /// The items with their scores, from the input up.
    pub fn iter(&self) -> impl Iterator<Item = (&Item, f64)> {
        self.scores.iter().map(|(item, score)| (item, *score))
    }

    /// The score of an item.
    pub fn get(&self, item: &Item) -> Option<f64>
    where
        Item: PartialEq,
    {
        self.iter().find(|(found, _)| *found == item).map(|(_, score)| score)
    }

    /// The items with their scores, the best first. A score that is no number is worse than all others.
    pub fn ranked(&self, ties: Ties) -> Vec<(&Item, f64)> {
        let mut ranked: Vec<(&Item, f64)> = self.iter().collect();
        if ties == Ties::UpperFirst {
            ranked.reverse();
        }
        let comparable = |score: f64| if score.is_nan() { f64::NEG_INFINITY } else { score };
        ranked.sort_by(|(_, a), (_, b)| comparable(*b).total_cmp(&comparable(*a)));
        ranked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(scores: &[f64], ties: Ties) -> Vec<usize> {
        let scores = Scores::of_layers(ScoreOrigin::ForwardPass, scores.iter().copied());
        scores.ranked(ties).into_iter().map(|(layer, _)| *layer).collect()
    }

    #[test]
    fn the_best_come_first_and_ties_go_as_asked() {
        assert_eq!(order(&[0.1, 0.5, 0.5, -0.2], Ties::LowerFirst), [2, 3, 1, 4]);
        assert_eq!(order(&[0.1, 0.5, 0.5, -0.2], Ties::UpperFirst), [3, 2, 1, 4]);
        assert_eq!(order(&[], Ties::LowerFirst), [0; 0]);
    }

    #[test]
    fn what_is_no_number_comes_last_and_infinity_first() {
        assert_eq!(order(&[f64::NAN, -3.0, f64::INFINITY], Ties::LowerFirst), [3, 2, 1]);
    }

    #[test]
    fn tensors_have_scores_by_name() {
        let scores = Scores::new(ScoreOrigin::Weights, [("a.weight", 2.0), ("b.weight", 1.0)]);
        assert_eq!((scores.get(&"b.weight"), scores.get(&"c.weight")), (Some(1.0), None));
        assert_eq!(scores.origin().to_string(), "weights");
    }
}
