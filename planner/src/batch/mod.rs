//! Sorts examples into batches of few shapes; the same examples always give the same batches.
//!
//! An engine compiles a graph for each shape, so rows of neighbouring lengths are padded to one, as many as cost less
//! padding than another shape would; and all batches of a shape have the same number of rows and positions: rows are
//! filled up with a repeated row, positions with the first position of the first row.

pub(crate) mod rounds;
pub(crate) mod shard;

use std::collections::BTreeMap;

use frostline_schemas::data::Example;

/// The sizes that an engine compiles a graph for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BatchShape {
    /// Sequences in a batch.
    pub rows: usize,
    /// Tokens in a row, padding included.
    pub length: usize,
    /// Positions whose traces are wanted, padding included.
    pub positions: usize,
}

/// One batch, padded to its shape.
#[derive(Clone, Debug)]
pub(crate) struct PaddedBatch {
    /// [rows, length]; padding on the right.
    pub tokens: Vec<i64>,
    /// [rows, length]; 1 for tokens, 0 for padding.
    pub mask: Vec<i64>,
    /// [positions, 2]: row, and position in it.
    pub positions: Vec<i64>,
}

/// The format of batches, stored with traces: raised by hand whenever the same examples are grouped otherwise.
pub(crate) const FORMAT: u64 = 2;
/// What another shape costs, in tokens: tract compiles a shape in about the time that it runs so many.
const SHAPE_COST: usize = 512;
/// Lengths are looked at in steps of a 64th of the longest, so that choosing shapes costs next to nothing.
const STEPS: usize = 64;

/// How large batches may grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    /// Tokens of a batch, padding included; a longer row is a batch of its own.
    pub tokens: usize,
    /// Positions that the model can hold; no row is padded beyond.
    pub length: usize,
}

/// Batches of one shape, and for each the examples in its rows (indices; filler rows at the end have none).
#[derive(Clone, Debug)]
pub(crate) struct BatchGroup {
    pub shape: BatchShape,
    pub batches: Vec<PaddedBatch>,
    pub examples: Vec<Vec<usize>>,
}

/// Sorts examples into groups, the shortest first.
pub(crate) fn groups(examples: &[Example], limits: BatchLimits) -> Vec<BatchGroup> {
    let longest = examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
    let step = longest.div_ceil(STEPS).max(1);
    let mut buckets: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, example) in examples.iter().enumerate() {
        buckets.entry(example.tokens.len().div_ceil(step) * step).or_default().push(index);
    }
    let counts: Vec<(usize, usize)> = buckets.iter().map(|(&length, members)| (length, members.len())).collect();
    let mut groups = Vec::new();
    let mut members = Vec::new();
    let mut ends = shapes(&counts).into_iter().peekable();
    for (length, bucket) in buckets {
        members.extend(bucket);
        if ends.next_if_eq(&length).is_some() {
            let longest = members.iter().map(|&index: &usize| examples[index].tokens.len()).max().unwrap_or(0);
            let length = length.min(limits.length.max(longest));
            groups.push(group(examples, length, std::mem::take(&mut members), limits));
        }
    }
    groups
}

/// The lengths to pad to: of all ways to cut the lengths (ascending, each with its number of rows) into runs the one
/// with the least padding, where a shape counts as [`SHAPE_COST`] tokens of padding.
fn shapes(lengths: &[(usize, usize)]) -> Vec<usize> {
    // The best way to pad the first so many lengths: its cost, and where its last run begins.
    let mut best: Vec<(usize, usize)> = vec![(0, 0)];
    for end in 1..=lengths.len() {
        let mut rows = 0usize;
        let mut choice = (usize::MAX, 0);
        for begin in (0..end).rev() {
            rows = rows.saturating_add(lengths[begin].1);
            let cost = best[begin].0.saturating_add(SHAPE_COST).saturating_add(rows.saturating_mul(lengths[end - 1].0));
            if cost < choice.0 {
                choice = (cost, begin);
            }
        }
        best.push(choice);
    }
    let mut ends = Vec::new();
    let mut end = lengths.len();
    while end > 0 {
        ends.push(lengths[end - 1].0);
        end = best[end].1;
    }
    ends.reverse();
    ends
}

fn group(examples: &[Example], length: usize, mut members: Vec<usize>, limits: BatchLimits) -> BatchGroup {
    members.sort_by_key(|&index| (examples[index].tokens.len(), index));
    let most = (limits.tokens / length.max(1)).max(1);
    let batches = members.len().div_ceil(most).max(1);
    // As even as can be, so that few rows are filler.
    let rows = members.len().div_ceil(batches).max(1);
    let chunks: Vec<Vec<usize>> = members.chunks(rows).map(<[usize]>::to_vec).collect();
    let targets = |chunk: &Vec<usize>| chunk.iter().map(|&index| examples[index].targets.len()).sum();
    let positions = chunks.iter().map(targets).max().unwrap_or(0).max(1);
    let shape = BatchShape { rows, length, positions };
    let batches = chunks.iter().map(|chunk| batch(examples, chunk, shape)).collect();
    BatchGroup { shape, batches, examples: chunks }
}

fn batch(examples: &[Example], chunk: &[usize], shape: BatchShape) -> PaddedBatch {
    let mut batch = PaddedBatch {
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
            let targets = example.targets.iter().map(|target| i64::from(target.position));
            batch.positions.extend(targets.flat_map(|position| [row as i64, position]));
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
    use frostline_schemas::data::Target;
    use frostline_schemas::digest::Digest;

    fn example(length: usize, positions: &[u32]) -> Example {
        let targets = positions.iter().map(|&position| Target { position, token: 1 }).collect();
        Example::new(1, vec![7; length], targets)
    }

    /// Whoever makes this fail on purpose raises [`FORMAT`]: traces of other batches do not go together.
    #[test]
    fn the_format_stands_for_these_batches() {
        let examples: Vec<Example> = (0..40).map(|i| example(3 + i * 7 % 40, &[0, 2])).collect();
        let limits = BatchLimits { tokens: 128, length: 64 };
        let groups: Vec<Vec<BatchGroup>> =
            rounds::rounds(40).into_iter().map(|round| rounds::groups(&examples, round, limits)).collect();
        let digest = Digest::of(format!("{groups:?}").as_bytes());
        assert_eq!((FORMAT, digest.short()), (2, "8f6f522679d7".into()));
    }

    #[test]
    fn lengths_share_few_shapes() {
        let examples = [example(5, &[3]), example(17, &[0, 15]), example(16, &[14]), example(9, &[2, 3])];
        let groups = groups(&examples, BatchLimits { tokens: 64, length: 100 });
        let shapes: Vec<BatchShape> = groups.iter().map(|group| group.shape).collect();
        assert_eq!(shapes, [BatchShape { rows: 2, length: 17, positions: 3 }]);
        assert_eq!(groups[0].examples, [[0, 3], [2, 1]]);
        assert_eq!(groups[0].batches[0].positions, [0, 3, 1, 2, 1, 3]);
        assert_eq!(groups[0].batches[0].mask.iter().sum::<i64>(), 5 + 9);
    }

    #[test]
    fn another_shape_is_worth_it_where_it_saves_more_padding() {
        // To pad 130 rows to 40 is 3720 tokens, to pad the 100 shortest to 12 is 200.
        assert_eq!(shapes(&[(10, 100), (12, 30), (40, 2)]), [12, 40]);
        assert_eq!(shapes(&[(10, 4), (12, 3), (40, 2)]), [40]);
        assert_eq!(shapes(&[]), [0; 0]);
        assert_eq!(shapes(&[(7, usize::MAX), (9, 1)]).last(), Some(&9));
    }

    #[test]
    fn the_last_batch_is_filled_up() {
        let examples: Vec<Example> = (0..5).map(|_| example(16, &[1, 2])).collect();
        let groups = groups(&examples, BatchLimits { tokens: 32, length: 16 });
        assert_eq!(groups[0].shape, BatchShape { rows: 2, length: 16, positions: 4 });
        assert_eq!(groups[0].examples, [vec![0, 1], vec![2, 3], vec![4]]);
        let last = &groups[0].batches[2];
        assert_eq!(last.tokens.len(), 32);
        assert_eq!(last.positions, [0, 1, 0, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn padding_stays_within_the_model() {
        let groups = groups(&[example(130, &[0])], BatchLimits { tokens: 1, length: 131 });
        assert_eq!(groups[0].shape.length, 131);
    }
}
