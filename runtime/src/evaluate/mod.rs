//! Evaluation: mean loss at targets, and ranking where the examples have few distinct completions.

use std::collections::BTreeSet;
use std::path::Path;

use frostline_schemas::data::{Example, MAX_LABELS};
use frostline_schemas::model::ModelIdentity;
use serde::{Deserialize, Serialize};

use crate::cache::{self, CacheSettings, Filling, StateSource};
use crate::data::{Batch, check_size};
use crate::error::Error;
use crate::model::Model;
use crate::system::ReuseBuffers;

/// The most distinct completions that are ranked.
pub const MAX_CANDIDATES: usize = MAX_LABELS;

/// How well a model does on examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
        return Err(nothing(examples));
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

/// The mean of −ln p over all targets, in nats, as [`evaluate`] gives it; nothing is ranked.
///
/// # Errors
/// As for [`evaluate`].
pub fn mean_loss(model: &Model, examples: &[Example], batch_size: usize) -> Result<f64, Error> {
    if examples.is_empty() || batch_size == 0 {
        return Err(nothing(examples));
    }
    model.check(examples)?;
    check_size(batch_size.min(examples.len()), examples)?;
    let _reuse = ReuseBuffers::new();
    let targets: usize = examples.iter().map(|example| example.targets.len()).sum();
    Ok(-log_likelihood(model, examples, batch_size, &mut |_, _| ())? / targets as f64)
}

/// −ln p of each example's targets together, in nats, from states at the frost line that the cache keeps; computed anew
/// without one.
///
/// # Errors
/// As for [`evaluate`], and [`Error::Cache`] where states are to be kept and there is no room.
pub(crate) fn losses_above(
    model: &Model,
    identity: &ModelIdentity,
    examples: &[Example],
    batch_size: usize,
    cache: Option<&CacheSettings>,
) -> Result<Vec<f64>, Error> {
    let _reuse = ReuseBuffers::new();
    let filling = Filling { examples, visits: examples.len() as u64, batch_size };
    let source = match cache.filter(|_| model.frost_line() > 0) {
        Some(cache) => StateSource::open(cache, model, identity, filling, &mut |_, _, _| Ok(()))?,
        None => StateSource::computed(),
    };
    let mut losses = Vec::with_capacity(examples.len());
    for chunk in examples.chunks(batch_size) {
        let batch = Batch::new(chunk);
        let state = cache::state(source.read(&chunk.iter().collect::<Vec<&Example>>()), model, &batch)?;
        let scores = model.log_probabilities_above(&batch, state)?;
        let mut own = scores.iter().map(|&score| f64::from(score));
        losses.extend(chunk.iter().map(|example| -own.by_ref().take(example.targets.len()).sum::<f64>()));
    }
    Ok(losses)
}

fn nothing(examples: &[Example]) -> Error {
    let field = if examples.is_empty() { "examples" } else { "batch_size" };
    Error::Setting { field, value: "0".into(), reason: "at least one is needed" }
}

/// A completion with what ends it, and how many of its tokens are words: these are ranked by.
type Candidate<'a> = (&'a [u32], usize);

/// What ranking the completions of these examples costs for each row, as a share of a training step: one forward pass over
/// its prompt and all completions, a third of a step for each row's own tokens. `None` where they are not ranked.
pub(crate) fn ranking_share(examples: &[Example]) -> Option<f64> {
    let candidates: usize = candidates(examples)?.iter().map(|(tokens, _)| tokens.len()).sum();
    let tokens: usize = examples.iter().map(|example| example.tokens.len()).sum();
    let completions: usize = examples.iter().map(|example| example.targets.len()).sum();
    let prompts = tokens.saturating_sub(completions) as f64;
    Some((prompts + candidates as f64 * examples.len() as f64) / (3.0 * tokens.max(1) as f64))
}

/// The distinct completions, sorted, where every example is a prompt and a completion and there are 2 to
/// [`MAX_CANDIDATES`].
fn candidates(examples: &[Example]) -> Option<Vec<Candidate<'_>>> {
    let mut distinct = BTreeSet::new();
    for example in examples {
        // One without words would come first of all: nothing is said against it.
        let completion = example.completion().filter(|completion| completion.words > 0)?;
        distinct.insert((completion.tokens, completion.words));
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
    candidates: &[Candidate],
    batch_size: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(f64, Ranking), Error> {
    check_lengths(model, examples, candidates)?;
    let mut sum = 0.0;
    let mut counts = Counts::new(candidates.len());
    for (k, chunk) in examples.chunks(batch_size).enumerate() {
        let scores = scores(model, chunk, candidates)?;
        for (example, scores) in chunk.iter().zip(scores.chunks(candidates.len())) {
            let own = example.completion().map(|own| (own.tokens, own.words));
            let own = candidates.iter().position(|candidate| Some(*candidate) == own);
            let own = own.ok_or(Error::Internal("a completion that is no candidate"))?;
            sum += scores[own].words + scores[own].end;
            counts.add(own, first_largest(scores));
        }
        progress(k * batch_size + chunk.len(), examples.len());
    }
    Ok((sum, counts.ranking()))
}

/// Checks that every prompt leaves enough of the learned positions for every candidate.
fn check_lengths(model: &Model, examples: &[Example], candidates: &[Candidate]) -> Result<(), Error> {
    let Some(positions) = model.learned_positions() else { return Ok(()) };
    let longest = candidates.iter().map(|(tokens, _)| tokens.len()).max().unwrap_or(0);
    for example in examples {
        let tokens = example.completion().map_or(0, |own| own.prompt.len()) + longest;
        if tokens > positions {
            return Err(Error::RankingTooLong { line: example.line, tokens, positions });
        }
    }
    Ok(())
}

/// Σ ln p of a candidate's tokens.
#[derive(Clone, Copy, Default)]
struct Score {
    /// Of its words, by which it is ranked.
    words: f64,
    /// Of what ends it: which of all candidates comes first must not hang on how each likes to end.
    end: f64,
}

/// The score of each candidate after each example's prompt, candidates of an example side by side.
fn scores(model: &Model, examples: &[Example], candidates: &[Candidate]) -> Result<Vec<Score>, Error> {
    let prompts = examples.iter().filter_map(|example| Some((example.line, example.completion()?.prompt)));
    let completions: Vec<&[u32]> = candidates.iter().map(|(tokens, _)| *tokens).collect();
    let batch = Batch::ranking(prompts, &completions);
    let mut scores = vec![Score::default(); examples.len() * candidates.len()];
    // A row's targets come in their order.
    let mut seen = vec![0; scores.len()];
    for (&row, score) in batch.target_rows.iter().zip(model.log_probabilities(&batch)?) {
        let row = row as usize;
        let (_, words) = candidates[row % candidates.len()];
        let sum = if seen[row] < words { &mut scores[row].words } else { &mut scores[row].end };
        *sum += f64::from(score);
        seen[row] += 1;
    }
    Ok(scores)
}

fn first_largest(scores: &[Score]) -> usize {
    let mut best = 0;
    for (k, score) in scores.iter().enumerate() {
        if score.words > scores[best].words {
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
        let score = |words| Score { words, end: 0.0 };
        assert_eq!(first_largest(&[-2.0, -1.0, -1.0].map(score)), 1);
    }

    #[test]
    fn one_completion_is_no_ranking() {
        let example = sequence(1, &[1, 2], &[3]);
        assert_eq!(candidates(&[example.clone(), example.clone()]), None);
        assert_eq!(candidates(&[example, sequence(2, &[1, 6], &[4, 5])]), Some(vec![(&[3u32][..], 1), (&[4, 5], 2)]));
    }
}
