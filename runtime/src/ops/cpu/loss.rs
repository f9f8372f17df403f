//! The LM head and cross-entropy, block by block over the vocabulary: logits of one block at a time, and one reading of
//! the head for loss and gradient together.

use candle_core::{Error, Result};
use rayon::prelude::*;

use super::product::multiply;
use super::{maximum, softcap, softcap_slope, softmax_part, sum2, vectorised};
use crate::ops::head::Targets;
use crate::ops::matrix::{Elements, Strided, WriteMode};

/// Tokens whose logits stand in memory at a time, for each thread.
const BLOCK: usize = 256;
/// Parts of the vocabulary that are summed apart: a fixed number, so that threads change no bit of a result.
const PARTS: usize = 16;
/// Hidden states taken at a time.
const STATES: usize = 512;

/// Hidden states, one row each.
#[derive(Clone, Copy)]
pub(crate) struct States<'a> {
    values: &'a [f32],
    width: usize,
}

impl<'a> States<'a> {
    /// Rows of `width` elements.
    pub(crate) fn new(values: &'a [f32], width: usize) -> States<'a> {
        States { values, width: width.max(1) }
    }

    fn count(self) -> usize {
        self.values.len() / self.width
    }

    /// Runs of at most [`STATES`] rows, with the row that each begins at.
    fn runs(self) -> impl Iterator<Item = (usize, States<'a>)> {
        let runs = self.values.chunks(STATES * self.width).enumerate();
        runs.map(move |(k, values)| (k * STATES, States { values, ..self }))
    }
}

/// The head's weight [vocabulary, hidden], and the cap of its logits.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    weight: Elements<'a>,
    softcap: Option<f32>,
}

impl<'a> Head<'a> {
    /// Logits `z` become `cap · tanh(z / cap)`, where there is a cap.
    pub(crate) fn new(weight: Elements<'a>, softcap: Option<f32>) -> Head<'a> {
        Head { weight, softcap }
    }

    /// Caps logits in place; `slopes` then holds the cap's derivative at each, and nothing where there is no cap.
    #[inline(always)]
    fn cap(self, logits: &mut [f32], slopes: &mut Vec<f32>) {
        let Some(cap) = self.softcap else { return };
        slopes.resize(logits.len(), 0.0);
        for (logit, slope) in logits.iter_mut().zip(slopes) {
            *logit = softcap(*logit, cap);
            *slope = softcap_slope(*logit, cap);
        }
    }

    /// The cap's derivative at a capped logit.
    fn slope(self, logit: f32) -> f32 {
        self.softcap.map_or(1.0, |cap| softcap_slope(logit, cap))
    }
}

/// ln Σ exp of each state's logits, and what else came of one pass over the head.
struct Pass {
    normalisers: Vec<f32>,
    /// Logits of the pairs.
    logits: Vec<f32>,
    /// Σ p(token) · the cap's slope · the head's row of the token, for each state; empty where it was not pairs.
    means: Vec<f32>,
}

/// `−ln softmax(h Wᵀ)[token]` for each pair of a state and a token.
pub(crate) fn losses(states: States, head: Head, pairs: &[(u32, u32)]) -> Result<Vec<f32>> {
    check(states, head, pairs.iter().copied())?;
    let mut losses = vec![0.0; pairs.len()];
    for (start, run) in states.runs() {
        let here = start..start + run.count();
        let (indices, pairs): (Vec<usize>, Vec<(usize, usize)>) = pairs
            .iter()
            .enumerate()
            .filter(|(_, (state, _))| here.contains(&(*state as usize)))
            .map(|(k, &(state, token))| (k, (state as usize - start, token as usize)))
            .unzip();
        let pass = pass(run, head, &pairs, false);
        for ((index, (state, _)), logit) in indices.into_iter().zip(&pairs).zip(&pass.logits) {
            losses[index] = pass.normalisers[*state] - logit;
        }
    }
    Ok(losses)
}

/// Losses of a target for each state, and the gradient of `scale` times their weighted sum: that of the states, [states, width],
/// and added to `head_gradient`, where it is given, that of the head.
pub(crate) fn cross_entropy(
    states: States,
    head: Head,
    targets: Targets,
    scale: f32,
    mut head_gradient: Option<(&mut [f32], WriteMode)>,
) -> Result<(Vec<f32>, Vec<f32>)> {
    check(states, head, targets.tokens.iter().enumerate().map(|(k, &token)| (k as u32, token)))?;
    if let Some((gradient, WriteMode::Overwrite)) = &mut head_gradient
        && targets.tokens.is_empty()
    {
        gradient.fill(0.0);
    }
    let (mut losses, mut gradient) = (Vec::with_capacity(targets.tokens.len()), vec![0.0; states.values.len()]);
    for ((start, run), gradient) in states.runs().zip(gradient.chunks_mut(STATES * states.width)) {
        let tokens = &targets.tokens[start..start + run.count()];
        let scales: Vec<f32> = (start..start + run.count()).map(|k| scale * targets.weight(k)).collect();
        let pairs: Vec<(usize, usize)> = tokens.iter().map(|&token| token as usize).enumerate().collect();
        let pass = pass(run, head, &pairs, true);
        losses.extend(pass.normalisers.iter().zip(&pass.logits).map(|(normaliser, logit)| normaliser - logit));
        let rows = gradient.par_chunks_mut(run.width).zip(pass.means.par_chunks(run.width)).enumerate();
        rows.for_each_init(Vec::new, |upcast, (k, (gradient, mean))| {
            let target = tokens[k] as usize;
            let row = head.weight.block(target..target + 1, 0..run.width, upcast);
            let slope = head.slope(pass.logits[k]);
            for ((gradient, mean), own) in gradient.iter_mut().zip(mean).zip(row.values) {
                *gradient = scales[k] * (mean - slope * own);
            }
        });
        if let Some((head_gradient, into)) = &mut head_gradient {
            let targets = tokens.iter().copied().zip(scales);
            add_head_gradient(
                run,
                head,
                &pass.normalisers,
                &targets.collect::<Vec<_>>(),
                (&mut **head_gradient, *into),
            );
            *into = WriteMode::Accumulate;
        }
    }
    Ok((losses, gradient))
}

fn check(states: States, head: Head, pairs: impl Iterator<Item = (u32, u32)>) -> Result<()> {
    let (count, vocabulary, columns) = (states.count(), head.weight.rows, head.weight.columns);
    if columns != states.width {
        return Err(Error::Msg(format!("states of width {} and a head of width {columns}", states.width)));
    }
    for (state, token) in pairs {
        if token as usize >= vocabulary {
            return Err(Error::Msg(format!("target token {token} is outside the vocabulary of {vocabulary}")));
        }
        if state as usize >= count {
            return Err(Error::Msg(format!("state {state} of {count}")));
        }
    }
    Ok(())
}

/// One part of the vocabulary: for each state the largest logit, Σ exp(logit − largest), and Σ exp(logit − largest) ·
/// the cap's slope · the head's row.
struct VocabularyPart {
    largest: Vec<f32>,
    totals: Vec<f32>,
    sums: Vec<f32>,
    /// Which of the pairs, and their logits.
    found: Vec<(usize, f32)>,
}

fn pass(states: States, head: Head, pairs: &[(usize, usize)], needs_means: bool) -> Pass {
    let vocabulary = head.weight.rows;
    let size = vocabulary.div_ceil(PARTS).max(1);
    let starts: Vec<usize> = (0..vocabulary).step_by(size).collect();
    let parts: Vec<VocabularyPart> = starts
        .into_par_iter()
        .map(|start| part(states, head, start..vocabulary.min(start + size), pairs, needs_means))
        .collect();
    let mut pass = Pass {
        normalisers: vec![0.0; states.count()],
        logits: vec![0.0; pairs.len()],
        means: vec![0.0; if needs_means { states.values.len() } else { 0 }],
    };
    for (k, normaliser) in pass.normalisers.iter_mut().enumerate() {
        let largest = parts.iter().map(|part| part.largest[k]).fold(f32::NEG_INFINITY, f32::max);
        let factor = |part: &VocabularyPart| (part.largest[k] - largest).exp();
        let total: f32 = parts.iter().map(|part| factor(part) * part.totals[k]).sum();
        *normaliser = largest + total.ln();
        if needs_means {
            let row = k * states.width..(k + 1) * states.width;
            for part in &parts {
                let factor = factor(part) / total;
                let sums = part.sums[row.clone()].iter();
                pass.means[row.clone()].iter_mut().zip(sums).for_each(|(mean, sum)| *mean += factor * sum);
            }
        }
    }
    for (k, logit) in parts.into_iter().flat_map(|part| part.found) {
        pass.logits[k] = logit;
    }
    pass
}

fn part(
    states: States,
    head: Head,
    tokens: std::ops::Range<usize>,
    pairs: &[(usize, usize)],
    needs_means: bool,
) -> VocabularyPart {
    let (count, width) = (states.count(), states.width);
    let mut part = VocabularyPart {
        largest: vec![f32::NEG_INFINITY; count],
        totals: vec![0.0; count],
        sums: vec![0.0; if needs_means { count * width } else { 0 }],
        found: Vec::new(),
    };
    let (mut upcast, mut logits, mut by_token, mut slopes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for start in tokens.clone().step_by(BLOCK) {
        let block = start..tokens.end.min(start + BLOCK);
        let rows = head.weight.block(block.clone(), 0..width, &mut upcast);
        logits_of(states, rows, block.len(), &mut by_token, &mut logits);
        vectorised(|| head.cap(&mut logits, &mut slopes));
        for (k, &(state, token)) in pairs.iter().enumerate().filter(|(_, (_, token))| block.contains(token)) {
            part.found.push((k, logits[state * block.len() + token - start]));
        }
        vectorised(|| part.exponentials(&mut logits, block.len(), width));
        if needs_means {
            logits.iter_mut().zip(&slopes).for_each(|(p, slope)| *p *= slope);
            let p = Strided::rows(&logits, block.len());
            multiply([count, width, block.len()], &mut part.sums, width, p, rows, WriteMode::Accumulate);
        }
    }
    part
}

/// Logits of a block of the head's rows, [states, tokens]. The product is taken the other way round, [tokens, states],
/// which is faster where there are few states.
fn logits_of(states: States, rows: Strided, tokens: usize, by_token: &mut Vec<f32>, logits: &mut Vec<f32>) {
    let count = states.count();
    let h = Strided::rows(states.values, states.width);
    by_token.resize(tokens * count, 0.0);
    logits.resize(count * tokens, 0.0);
    multiply([tokens, count, states.width], by_token, count, rows, h.transposed(), WriteMode::Overwrite);
    for (k, row) in logits.chunks_exact_mut(tokens.max(1)).enumerate() {
        row.iter_mut().zip(by_token[k..].iter().step_by(count)).for_each(|(logit, &value)| *logit = value);
    }
}

impl VocabularyPart {
    /// From logits to exp(logit − largest so far); what was summed before is brought to the same measure.
    #[inline(always)]
    fn exponentials(&mut self, logits: &mut [f32], block: usize, width: usize) {
        for (k, row) in logits.chunks_exact_mut(block).enumerate() {
            let largest = self.largest[k].max(maximum(row));
            let factor = softmax_part(self.largest[k] - largest);
            if factor != 1.0 {
                self.totals[k] *= factor;
                let sums = self.sums.get_mut(k * width..(k + 1) * width).unwrap_or_default();
                sums.iter_mut().for_each(|sum| *sum *= factor);
            }
            self.largest[k] = largest;
            row.iter_mut().for_each(|x| *x = softmax_part(*x - largest));
            self.totals[k] += sum2(row, row, |x, _| x);
        }
    }
}

/// `(scale · (softmax − onehot) · slope)ᵀ h` with each target's token and scale, block by block of the head's rows.
fn add_head_gradient(
    states: States,
    head: Head,
    normalisers: &[f32],
    targets: &[(u32, f32)],
    (gradient, into): (&mut [f32], WriteMode),
) {
    let (count, width) = (states.count(), states.width);
    let h = Strided::rows(states.values, width);
    gradient.par_chunks_mut(BLOCK * width).enumerate().for_each_init(
        || (Vec::new(), Vec::new(), Vec::new(), Vec::new()),
        |(upcast, by_token, logits, slopes), (k, gradient)| {
            let (start, tokens) = (k * BLOCK, gradient.len() / width);
            let rows = head.weight.block(start..start + tokens, 0..width, upcast);
            logits_of(states, rows, tokens, by_token, logits);
            vectorised(|| {
                head.cap(logits, slopes);
                for ((row, normaliser), (_, scale)) in logits.chunks_exact_mut(tokens).zip(normalisers).zip(targets) {
                    row.iter_mut().for_each(|x| *x = scale * softmax_part(*x - normaliser));
                }
            });
            for (row, &(target, scale)) in logits.chunks_exact_mut(tokens).zip(targets) {
                if let Some(own) = (target as usize).checked_sub(start).and_then(|token| row.get_mut(token)) {
                    *own -= scale;
                }
            }
            logits.iter_mut().zip(&*slopes).for_each(|(gradient, slope)| *gradient *= slope);
            let p = Strided::rows(logits, tokens).transposed();
            multiply([tokens, width, count], gradient, width, p, h, into);
        },
    );
}
