//! Sorts examples into batches of few shapes, always the same for the same examples.
//!
//! An engine compiles a graph for each shape, so lengths are rounded up to buckets and all batches of a bucket have the
//! same number of rows and positions: rows are filled up with a repeated row, positions with the first place of the first row.

use std::collections::BTreeMap;

use frostline_schemas::examples::Example;

use crate::engine::{Batch, Shape};

/// Lengths are rounded up to multiples of it.
const BUCKET: usize = 16;

/// How large batches may grow.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tokens of a batch, padding included; a longer row is a batch of its own.
    pub tokens: usize,
    /// Places that the model can hold; no row is padded beyond.
    pub length: usize,
}

/// Batches of one shape, and for each the examples in its rows (indices; filler rows at the end have none).
#[derive(Clone, Debug)]
pub struct Group {
    pub shape: Shape,
    pub batches: Vec<Batch>,
    pub examples: Vec<Vec<usize>>,
}

/// Sorts examples into groups, the shortest first.
pub fn groups(examples: &[Example], limits: Limits) -> Vec<Group> {
    let mut buckets: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, example) in examples.iter().enumerate() {
        let rounded = example.tokens.len().div_ceil(BUCKET) * BUCKET;
        let length = rounded.min(limits.length.max(example.tokens.len()));
        buckets.entry(length).or_default().push(index);
    }
    buckets.into_iter().map(|(length, members)| group(examples, length, members, limits)).collect()
}

fn group(examples: &[Example], length: usize, mut members: Vec<usize>, limits: Limits) -> Group {
    members.sort_by_key(|&index| (examples[index].tokens.len(), index));
    let most = (limits.tokens / length.max(1)).max(1);
    let batches = members.len().div_ceil(most).max(1);
    // As even as can be, so that few rows are filler.
    let rows = members.len().div_ceil(batches).max(1);
    let chunks: Vec<Vec<usize>> = members.chunks(rows).map(<[usize]>::to_vec).collect();
    let targets = |chunk: &Vec<usize>| chunk.iter().map(|&index| examples[index].targets.len()).sum();
    let positions = chunks.iter().map(targets).max().unwrap_or(0).max(1);
    let shape = Shape { rows, length, positions };
    let batches = chunks.iter().map(|chunk| batch(examples, chunk, shape)).collect();
    Group { shape, batches, examples: chunks }
}

fn batch(examples: &[Example], chunk: &[usize], shape: Shape) -> Batch {
    let mut batch = Batch {
        tokens: Vec::with_capacity(shape.rows * shape.length),
        mask: Vec::with_capacity(shape.rows * shape.length),
        positions: Vec::with_capacity(shape.positions * 2),
    };
    let last = chunk.last().copied();
    let rows = chunk.iter().copied().chain(std::iter::repeat_n(last, shape.rows - chunk.len()).flatten());
    for (row, index) in rows.enumerate() {
        let example = &examples[index];
        let padding = shape.length - example.tokens.len();
        batch.tokens.extend(example.tokens.iter().map(|&token| i64::from(token)));
        batch.tokens.extend(std::iter::repeat_n(0, padding));
        batch.mask.extend(std::iter::repeat_n(1, example.tokens.len()));
        batch.mask.extend(std::iter::repeat_n(0, padding));
        if row < chunk.len() {
            let places = example.targets.iter().map(|target| i64::from(target.position));
            batch.positions.extend(places.flat_map(|place| [row as i64, place]));
        }
    }
    let filler = [0, 0];
    while batch.positions.len() < shape.positions * 2 {
        batch.positions.extend(filler);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use frostline_schemas::examples::Target;

    fn example(length: usize, positions: &[u32]) -> Example {
        let targets = positions.iter().map(|&position| Target { position, token: 1 }).collect();
        Example::new(1, vec![7; length], targets)
    }

    #[test]
    fn lengths_share_few_shapes() {
        let examples = [example(5, &[3]), example(17, &[0, 15]), example(16, &[14]), example(9, &[2, 3])];
        let groups = groups(&examples, Limits { tokens: 64, length: 100 });
        let shapes: Vec<Shape> = groups.iter().map(|group| group.shape).collect();
        assert_eq!(shapes[0], Shape { rows: 3, length: 16, positions: 4 });
        assert_eq!(shapes[1], Shape { rows: 1, length: 32, positions: 2 });
        assert_eq!(groups[0].examples, [[0, 3, 2]]);
        assert_eq!(groups[0].batches[0].positions, [0, 3, 1, 2, 1, 3, 2, 14]);
        assert_eq!(groups[0].batches[0].mask.iter().sum::<i64>(), 5 + 9 + 16);
    }

    #[test]
    fn the_last_batch_is_filled_up() {
        let examples: Vec<Example> = (0..5).map(|_| example(16, &[1, 2])).collect();
        let groups = groups(&examples, Limits { tokens: 32, length: 16 });
        assert_eq!(groups[0].shape, Shape { rows: 2, length: 16, positions: 4 });
        assert_eq!(groups[0].examples, [vec![0, 1], vec![2, 3], vec![4]]);
        let last = &groups[0].batches[2];
        assert_eq!(last.tokens.len(), 32);
        assert_eq!(last.positions, [0, 1, 0, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn padding_stays_within_the_model() {
        let groups = groups(&[example(17, &[0])], Limits { tokens: 1, length: 20 });
        assert_eq!(groups[0].shape.length, 20);
    }
}
