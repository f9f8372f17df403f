//! Causal attention, sequence by sequence and head by head, with scores only for a block of queries at a time.

use std::ops::Range;

use candle_core::{Error, Result, Tensor};
use gemm::Parallelism;
use rayon::prelude::*;

use super::product::{OutputRows, multiply, product};
use super::{accumulate, maximum, softcap, softcap_slope, softmax_part, sum2, vectorised, with_slices};
use crate::ops::attention::scoring::{Scoring, first_seen};
use crate::ops::matrix::{Strided, WriteMode};
use crate::ops::sequences::{Sequences, Span};

/// Queries whose scores stand in memory at a time.
const BLOCK: usize = 64;

/// The sizes of one attention.
#[derive(Clone, Copy)]
struct Heads {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Heads {
    /// Checks that each query belongs to one span, as threads write by spans.
    fn new([queries, keys, values]: [&Tensor; 3], scoring: Scoring, sequences: &Sequences) -> Result<Heads> {
        let (rows, heads, head_dim) = queries.dims3()?;
        let (tokens, kv_heads, key_dim) = keys.dims3()?;
        let fits = rows == sequences.queries() && tokens == sequences.tokens() && sequences.are_whole();
        let grouped = kv_heads > 0 && heads.is_multiple_of(kv_heads) && key_dim == head_dim;
        if !fits || !grouped || values.dims() != keys.dims() || scoring.window == Some(0) {
            return Err(Error::Msg("attention over other tokens or heads than the batch has".into()));
        }
        Ok(Heads { heads, kv_heads, head_dim })
    }

    /// The key and value head that a query head reads.
    fn kv_head(self, head: usize) -> usize {
        head / (self.heads / self.kv_heads)
    }

    fn query_width(self) -> usize {
        self.heads * self.head_dim
    }

    fn key_width(self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// A sequence's queries of a head, cut into blocks, with what each block sees.
struct Block {
    /// Rows of the queries.
    queries: Range<usize>,
    /// Of the sequence's keys, those that any of the queries sees.
    keys: Range<usize>,
    /// Of those, what each query sees.
    seen: Vec<Range<usize>>,
}

fn blocks(sequences: &Sequences, span: &Span, keys: &[u32], window: Option<usize>) -> Vec<Block> {
    let block = |start: usize| {
        let queries = start..span.queries.end.min(start + BLOCK);
        let position = |query: usize| sequences.query_positions()[query];
        let seen = |query: usize| {
            let first = first_seen(position(query) as usize, window) as u32;
            keys.partition_point(|&key| key < first)..keys.partition_point(|&key| key <= position(query))
        };
        let seen: Vec<Range<usize>> = queries.clone().map(seen).collect();
        let first = seen.iter().map(|seen| seen.start).min().unwrap_or(0);
        let last = seen.iter().map(|seen| seen.end).max().unwrap_or(0);
        let seen = seen.into_iter().map(|seen| seen.start - first..seen.end - first).collect();
        Block { queries, keys: first..last, seen }
    };
    span.queries.clone().step_by(BLOCK).map(block).collect()
}

/// Output [queries, heads · head_dim], and for each query and head ln Σ exp of the scaled scores, head by head.
pub(crate) fn forward(
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    scoring: Scoring,
    sequences: &Sequences,
) -> Result<(Tensor, Vec<f32>)> {
    let heads = Heads::new([queries, keys, values], scoring, sequences)?;
    let mut out = vec![0.0; queries.elem_count()];
    let target = OutputRows::new(&mut out, heads.query_width());
    let normalisers = with_slices([queries, keys, values], |[queries, keys, values]| {
        let tasks: Vec<(&Span, usize)> =
            sequences.spans().iter().flat_map(|span| (0..heads.heads).map(move |head| (span, head))).collect();
        let results: Vec<Vec<f32>> = tasks
            .into_par_iter()
            .map_init(Scratch::default, |scratch, (span, head)| {
                let task = Task { heads, scoring, sequences, span, head };
                task.forward(queries, keys, values, target, scratch)
            })
            .collect();
        by_head(&results, sequences, heads.heads)
    })?;
    Ok((Tensor::from_vec(out, (sequences.queries(), heads.query_width()), queries.device())?, normalisers))
}

/// One number for each query of each task, as rows of queries for each head.
fn by_head(results: &[Vec<f32>], sequences: &Sequences, heads: usize) -> Vec<f32> {
    let mut all = vec![0.0; heads * sequences.queries()];
    for (k, result) in results.iter().enumerate() {
        let (span, head) = (&sequences.spans()[k / heads], k % heads);
        let start = head * sequences.queries() + span.queries.start;
        all[start..start + result.len()].copy_from_slice(result);
    }
    all
}

/// What a thread computes with.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    gradients: Vec<f32>,
    slopes: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// One sequence and one head.
struct Task<'a> {
    heads: Heads,
    scoring: Scoring,
    sequences: &'a Sequences,
    span: &'a Span,
    head: usize,
}

impl Task<'_> {
    /// The head's part of rows of queries from `row` on.
    fn of_queries<'b>(&self, queries: &'b [f32], row: usize) -> Strided<'b> {
        let width = self.heads.query_width();
        Strided::rows(&queries[row * width + self.head * self.heads.head_dim..], width)
    }

    /// The head's part of the sequence's keys (or values): as it lies, or gathered where it lies in pieces.
    fn of_keys<'b>(&self, keys: &'b [f32], gathered: &'b mut Vec<f32>) -> Strided<'b> {
        let (width, size) = (self.heads.key_width(), self.heads.head_dim);
        let start = self.heads.kv_head(self.head) * size;
        if let [range] = self.span.keys.as_slice() {
            return Strided::rows(&keys[range.start * width + start..], width);
        }
        gathered.clear();
        for token in self.span.keys.iter().flat_map(Clone::clone) {
            gathered.extend_from_slice(&keys[token * width + start..][..size]);
        }
        Strided::rows(gathered, size)
    }

    fn forward(
        &self,
        queries: &[f32],
        keys: &[f32],
        values: &[f32],
        out: OutputRows,
        scratch: &mut Scratch,
    ) -> Vec<f32> {
        let Scratch { scores, keys: gathered_keys, values: gathered_values, .. } = scratch;
        let (keys, values) = (self.of_keys(keys, gathered_keys), self.of_keys(values, gathered_values));
        let positions = self.sequences.key_positions(self.span);
        let mut normalisers = Vec::with_capacity(self.span.queries.len());
        for block in blocks(self.sequences, self.span, &positions, self.scoring.window) {
            let (n, seen) = (block.queries.len(), block.keys.len());
            self.scores(&block, queries, keys, scores);
            vectorised(|| {
                for (row, range) in scores.chunks_exact_mut(seen).zip(&block.seen) {
                    row[..range.start].fill(0.0);
                    row[range.end..].fill(0.0);
                    let row = &mut row[range.clone()];
                    to_scores(row, self.scoring);
                    normalisers.push(softmax(row));
                }
            });
            let values = values.from_row(block.keys.start);
            let offset = block.queries.start * self.heads.query_width() + self.head * self.heads.head_dim;
            let sizes = [n, self.heads.head_dim, seen];
            // SAFETY: these rows and columns of the output are this task's own: no query is in two spans.
            unsafe {
                let out = out.from(offset);
                product(sizes, out, Strided::rows(scores, seen), values, WriteMode::Overwrite, Parallelism::None);
            }
        }
        normalisers
    }

    /// `q kᵀ`, [queries, keys] of the block, not scaled.
    fn scores(&self, block: &Block, queries: &[f32], keys: Strided, scores: &mut Vec<f32>) {
        let (n, seen) = (block.queries.len(), block.keys.len());
        scores.resize(n * seen, 0.0);
        let (queries, keys) = (self.of_queries(queries, block.queries.start), keys.from_row(block.keys.start));
        multiply([n, seen, self.heads.head_dim], scores, seen, queries, keys.transposed(), WriteMode::Overwrite);
    }

    /// Gradients of the sequence's keys and values through this head, [keys, head_dim] each; those of the queries go to
    /// `dqueries`.
    fn backward(&self, saved: &BackwardInputs, dqueries: OutputRows, scratch: &mut Scratch) -> (Vec<f32>, Vec<f32>) {
        let Scratch { scores, gradients, slopes, .. } = scratch;
        let (mut gathered_keys, mut gathered_values) = (Vec::new(), Vec::new());
        let (keys, values) =
            (self.of_keys(saved.keys, &mut gathered_keys), self.of_keys(saved.values, &mut gathered_values));
        let positions = self.sequences.key_positions(self.span);
        let size = self.heads.head_dim;
        let (mut dkeys, mut dvalues) = (vec![0.0; positions.len() * size], vec![0.0; positions.len() * size]);
        for block in blocks(self.sequences, self.span, &positions, self.scoring.window) {
            let (n, seen, start) = (block.queries.len(), block.keys.len(), block.keys.start);
            let (dy, y) =
                (self.of_queries(saved.dy, block.queries.start), self.of_queries(saved.y, block.queries.start));
            self.scores(&block, saved.queries, keys, scores);
            gradients.resize(n * seen, 0.0);
            multiply([n, seen, size], gradients, seen, dy, values.from_row(start).transposed(), WriteMode::Overwrite);
            self.probabilities(&block, saved.normalisers, scores, slopes);
            let p = Strided::rows(scores, seen);
            multiply([seen, size, n], &mut dvalues[start * size..], size, p.transposed(), dy, WriteMode::Accumulate);
            vectorised(|| {
                for (k, (ds, p)) in gradients.chunks_exact_mut(seen).zip(scores.chunks_exact(seen)).enumerate() {
                    let sum = sum2(&dy.values[k * dy.row..][..size], &y.values[k * y.row..][..size], |dy, y| dy * y);
                    for (ds, p) in ds.iter_mut().zip(p) {
                        *ds = self.scoring.scale as f32 * p * (*ds - sum);
                    }
                }
                gradients.iter_mut().zip(&*slopes).for_each(|(ds, slope)| *ds *= slope);
            });
            let ds = Strided::rows(gradients, seen);
            let queries = self.of_queries(saved.queries, block.queries.start);
            multiply(
                [seen, size, n],
                &mut dkeys[start * size..],
                size,
                ds.transposed(),
                queries,
                WriteMode::Accumulate,
            );
            let offset = block.queries.start * self.heads.query_width() + self.head * size;
            let keys = keys.from_row(start);
            // SAFETY: these rows and columns of the queries' gradient are this task's own: no query is in two spans.
            unsafe {
                product([n, size, seen], dqueries.from(offset), ds, keys, WriteMode::Overwrite, Parallelism::None)
            };
        }
        (dkeys, dvalues)
    }

    /// From products of queries and keys to probabilities, by the normalisers that the forward pass found; `slopes` then
    /// holds the cap's derivative at each score, and nothing where there is no cap.
    fn probabilities(&self, block: &Block, normalisers: &[f32], scores: &mut [f32], slopes: &mut Vec<f32>) {
        let start = self.head * self.sequences.queries() + block.queries.start;
        let normalisers = &normalisers[start..start + block.queries.len()];
        let seen = block.keys.len();
        slopes.clear();
        slopes.resize(if self.scoring.softcap.is_some() { scores.len() } else { 0 }, 0.0);
        vectorised(|| {
            let rows = scores.chunks_exact_mut(seen).zip(&block.seen).enumerate();
            for ((k, (row, range)), normaliser) in rows.zip(normalisers) {
                row[..range.start].fill(0.0);
                row[range.end..].fill(0.0);
                let row = &mut row[range.clone()];
                to_scores(row, self.scoring);
                if let Some(cap) = self.scoring.softcap {
                    slopes[k * seen..][range.clone()]
                        .iter_mut()
                        .zip(&*row)
                        .for_each(|(slope, x)| *slope = softcap_slope(*x, cap as f32));
                }
                row.iter_mut().for_each(|x| *x = softmax_part(*x - normaliser));
            }
        });
    }
}

/// What the backward pass reads.
struct BackwardInputs<'a> {
    dy: &'a [f32],
    y: &'a [f32],
    queries: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    normalisers: &'a [f32],
}

/// Gradients of queries, keys and values, each in its own shape. Each sequence's keys must be one run of tokens.
pub(crate) fn backward(
    dy: &Tensor,
    y: &Tensor,
    [queries, keys, values]: [&Tensor; 3],
    normalisers: &[f32],
    scoring: Scoring,
    sequences: &Sequences,
) -> Result<[Tensor; 3]> {
    let heads = Heads::new([queries, keys, values], scoring, sequences)?;
    let mut dqueries = vec![0.0; queries.elem_count()];
    let (mut dkeys, mut dvalues) = (vec![0.0; keys.elem_count()], vec![0.0; keys.elem_count()]);
    let target = OutputRows::new(&mut dqueries, heads.query_width());
    with_slices([dy, y, queries, keys, values], |[dy, y, queries, keys, values]| {
        let saved = BackwardInputs { dy, y, queries, keys, values, normalisers };
        let runs = sequences.spans().iter().map(|span| match span.keys.as_slice() {
            [run] => Ok((span, run)),
            _ => Err(Error::Msg("a sequence with branches has no backward pass".into())),
        });
        let runs = runs.collect::<Result<Vec<_>>>()?;
        let tasks: Vec<(&Span, usize)> =
            runs.iter().flat_map(|(span, _)| (0..heads.heads).map(move |head| (*span, head))).collect();
        let parts: Vec<(Vec<f32>, Vec<f32>)> = tasks
            .into_par_iter()
            .map_init(Scratch::default, |scratch, (span, head)| {
                Task { heads, scoring, sequences, span, head }.backward(&saved, target, scratch)
            })
            .collect();
        for (k, (dk, dv)) in parts.iter().enumerate() {
            let ((_, run), head) = (runs[k / heads.heads], k % heads.heads);
            add_head(&mut dkeys, dk, heads, head, run);
            add_head(&mut dvalues, dv, heads, head, run);
        }
        Ok::<(), Error>(())
    })??;
    let tensor = |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
    Ok([tensor(dqueries, queries)?, tensor(dkeys, keys)?, tensor(dvalues, values)?])
}

/// Adds what a query head gave to the gradient of the key head that it reads.
fn add_head(all: &mut [f32], part: &[f32], heads: Heads, head: usize, tokens: &Range<usize>) {
    let (width, size) = (heads.key_width(), heads.head_dim);
    let start = heads.kv_head(head) * size;
    for (token, part) in tokens.clone().zip(part.chunks_exact(size)) {
        accumulate(&mut all[token * width + start..][..size], part);
    }
}

/// From products of a query and keys to scores, in place: scaled, and capped where there is a cap.
#[inline(always)]
fn to_scores(row: &mut [f32], scoring: Scoring) {
    let scale = scoring.scale as f32;
    row.iter_mut().for_each(|x| *x *= scale);
    if let Some(cap) = scoring.softcap {
        row.iter_mut().for_each(|x| *x = softcap(*x, cap as f32));
    }
}

/// Softmax in place; returns ln Σ exp.
#[inline(always)]
fn softmax(row: &mut [f32]) -> f32 {
    let max = maximum(row);
    row.iter_mut().for_each(|x| *x = softmax_part(*x - max));
    let total = sum2(row, row, |x, _| x);
    let factor = 1.0 / total;
    row.iter_mut().for_each(|x| *x *= factor);
    max + total.ln()
}
