//! Evaluation: mean loss at targets, and ranking where the examples have few distinct completions.

use std::collections::BTreeSet;
use std::path::Path;

use frostline_schemas::data::Example;

use crate::data::{Batch, check_size};
use crate::error::Error;
use crate::model::Model;
use crate::system::ReuseBuffers;

/// The most distinct completions that are ranked.
pub const MAX_CANDIDATES: usize = 64;

/// How well a model does on examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Examples evaluated.
    pub examples: usize,
    /// Targets of all of them.
    pub targets: usize,
    /// Mean of −ln p over all targets, in nats.
    pub loss: f64,
    /// Where the examples have 2 to [`MAX_CANDIDATES`] distinct completions.
    pub ranking: Option<Ranking>,
}

impl Evaluation {
    /// Refuses a loss that is not finite; `model` is the folder of the model that was evaluated.
    ///
    /// # Errors
    /// [`Error::EvaluationLoss`] for one.
    pub(crate) fn finite(self, model: &Path) -> Result<Evaluation, Error> {
        let loss = self.loss;
        if loss.is_finite() { Ok(self) } else { Err(Error::EvaluationLoss { model: model.into(), loss }) }
    }

    /// e to the mean loss.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }
}

/// How often the right completion is the likeliest.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// Distinct completions.
    pub candidates: usize,
    /// Share of examples whose own completion came first.
    pub accuracy: f64,
    /// Mean over the candidates of their F1.
    pub macro_f1: f64,
}

/// Evaluates with `batch_size` examples at a time; `progress` is told how many examples of all are done.
///
/// Completions are ranked by the sum of their tokens' log-probabilities given the prompt; of equals the first in the
/// order of their tokens wins. All completions of an example are computed together, their prompt once.
///
/// # Errors
/// [`Error::Setting`] for a size that makes no sense, [`Error::Token`], [`Error::TooLong`] and [`Error::RankingTooLong`]
/// for rows that the model cannot take, before anything is computed.
pub fn evaluate(
    model: &Model,
    examples: &[Example],
    batch_size: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Evaluation, Error> {
    if examples.is_empty() || batch_size == 0 {
        let field = if examples.is_empty() { "examples" } else { "batch_size" };
        return Err(Error::Setting { field, value: "0".into(), reason: "at least one is needed" });
    }
    model.check(examples)?;
    let _reuse = ReuseBuffers::new();
    let targets = examples.iter().map(|example| example.targets.len()).sum();
    let candidates = candidates(examples);
    let completions = candidates.as_ref().map_or(1, Vec::len);
    check_size(batch_size.min(examples.len()).saturating_mul(completions), examples)?;
    let (sum, ranking) = match &candidates {
        Some(candidates) => {
            let (sum, ranking) = rank(model, examples, candidates, batch_size, progress)?;
            (sum, Some(ranking))
        }
        None => (log_likelihood(model, examples, batch_size, progress)?, None),
    };
    Ok(Evaluation { examples: examples.len(), targets, loss: -sum / targets as f64, ranking })
}

/// The distinct completions, sorted, where every example is a prompt and a completion and there are 2 to
/// [`MAX_CANDIDATES`].
fn candidates(examples: &[Example]) -> Option<Vec<&[u32]>> {
    let mut distinct = BTreeSet::new();
    for example in examples {
        distinct.insert(example.completion()?.1);
        if distinct.len() > MAX_CANDIDATES {
            return None;
        }
    }
    (distinct.len() > 1).then(|| distinct.into_iter().collect())
}

/// Σ ln p over all targets.
fn log_likelihood(
    model: &Model,
    examples: &[Example],
    batch_size: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<f64, Error> {
    let mut sum = 0.0;
    for (k, chunk) in examples.chunks(batch_size).enumerate() {
        let scores = model.log_probabilities(&Batch::new(chunk))?;
        sum += scores.iter().map(|&score| f64::from(score)).sum::<f64>();
        progress(k * batch_size + chunk.len(), examples.len());
    }
    Ok(sum)
}

/// Σ ln p over all targets of the examples' own completions, and the ranking.
fn rank(
    model: &Model,
    examples: &[Example],
    candidates: &[&[u32]],
    batch_size: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(f64, Ranking), Error> {
    check_lengths(model, examples, candidates)?;
    let mut sum = 0.0;
    let mut counts = Counts::new(candidates.len());
    for (k, chunk) in examples.chunks(batch_size).enumerate() {
        let scores = scores(model, chunk, candidates)?;
        for (example, scores) in chunk.iter().zip(scores.chunks(candidates.len())) {
            let own = example.completion().and_then(|(_, own)| candidates.iter().position(|c| *c == own));
            let own = own.ok_or(Error::Internal("a completion that is no candidate"))?;
            sum += scores[own];
            counts.add(own, first_largest(scores));
        }
        progress(k * batch_size + chunk.len(), examples.len());
    }
    Ok((sum, counts.ranking()))
}

/// Checks that every prompt leaves enough of the learned positions for every candidate.
fn check_lengths(model: &Model, examples: &[Example], candidates: &[&[u32]]) -> Result<(), Error> {
    let Some(positions) = model.learned_positions() else { return Ok(()) };
    let longest = candidates.iter().map(|candidate| candidate.len()).max().unwrap_or(0);
    for example in examples {
        let tokens = example.completion().map_or(0, |(prompt, _)| prompt.len()) + longest;
        if tokens > positions {
            return Err(Error::RankingTooLong { line: example.line, tokens, positions });
        }
    }
    Ok(())
}

/// Σ ln p of each candidate after each example's prompt, candidates of an example side by side.
fn scores(model: &Model, examples: &[Example], candidates: &[&[u32]]) -> Result<Vec<f64>, Error> {
    let prompts = examples.iter().filter_map(|example| Some((example.line, example.completion()?.0)));
    let batch = Batch::ranking(prompts, candidates);
    let mut scores = vec![0.0; examples.len() * candidates.len()];
    for (&row, score) in batch.target_rows.iter().zip(model.log_probabilities(&batch)?) {
        scores[row as usize] += f64::from(score);
    }
    Ok(scores)
}

fn first_largest(scores: &[f64]) -> usize {
    let mut best = 0;
    for (k, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = k;
        }
    }
    best
}

/// For each candidate: how often it was right and chosen, chosen, and right.
struct Counts {
    hits: Vec<usize>,
    chosen: Vec<usize>,
    right: Vec<usize>,
}

impl Counts {
    fn new(candidates: usize) -> Counts {
        Counts { hits: vec![0; candidates], chosen: vec![0; candidates], right: vec![0; candidates] }
    }

    fn add(&mut self, right: usize, chosen: usize) {
        self.right[right] += 1;
        self.chosen[chosen] += 1;
        self.hits[right] += usize::from(right == chosen);
    }

    fn ranking(&self) -> Ranking {
        let candidates = self.hits.len();
        let f1 = |k: usize| 2.0 * self.hits[k] as f64 / (self.chosen[k] + self.right[k]).max(1) as f64;
        Ranking {
            candidates,
            accuracy: self.hits.iter().sum::<usize>() as f64 / self.right.iter().sum::<usize>().max(1) as f64,
            macro_f1: (0..candidates).map(f1).sum::<f64>() / candidates.max(1) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frostline_schemas::data::Target;

    fn sequence(line: u64, prompt: &[u32], completion: &[u32]) -> Example {
        let targets = completion.iter().enumerate();
        let targets = targets.map(|(k, &token)| Target { position: (prompt.len() + k - 1) as u32, token });
        Example::new(line, [prompt, completion].concat(), targets.collect())
    }

    /// Class 0: 2 of 3 right, chosen 3 times: F1 = 4/6. Class 1: 1 of 2 right, chosen twice: F1 = 2/4.
    #[test]
    fn macro_f1_is_the_mean_over_classes() {
        let mut counts = Counts::new(2);
        for (right, chosen) in [(0, 0), (0, 0), (0, 1), (1, 1), (1, 0)] {
            counts.add(right, chosen);
        }
        let ranking = counts.ranking();
        assert_eq!(ranking.accuracy, 3.0 / 5.0);
        assert!((ranking.macro_f1 - (4.0 / 6.0 + 0.5) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn of_equals_the_first_wins() {
        assert_eq!(first_largest(&[-2.0, -1.0, -1.0]), 1);
    }

    #[test]
    fn one_completion_is_no_ranking() {
        let example = sequence(1, &[1, 2], &[3]);
        assert_eq!(candidates(&[example.clone(), example.clone()]), None);
        assert_eq!(candidates(&[example, sequence(2, &[1, 6], &[4, 5])]), Some(vec![&[3u32][..], &[4, 5]]));
    }
}
