//! How the places of a batch belong together: which sequence each is of, where in it, and what it can see.

use std::ops::Range;

/// Sequences side by side, without padding. Queries are all places, or those alone whose output is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    spans: Vec<Span>,
    query_positions: Vec<u32>,
    positions: Vec<u32>,
}

/// The queries of one sequence, and the places whose keys they may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Rows of the queries.
    pub queries: Range<usize>,
    /// Places, in the order of their positions: one run, or the prompt's and then a completion's own.
    pub keys: Vec<Range<usize>>,
}

impl Span {
    /// Places that see one another and what lies before them in the same run.
    pub fn alone(places: Range<usize>) -> Span {
        Span { queries: places.clone(), keys: vec![places] }
    }

    /// Places that see those of `before` too.
    pub fn after(before: Range<usize>, places: Range<usize>) -> Span {
        Span { queries: places.clone(), keys: vec![before, places] }
    }
}

impl Sequences {
    /// Every place is a query. `positions` are those of the places in their sequences; `spans` cover all places.
    pub fn new(spans: Vec<Span>, positions: Vec<u32>) -> Sequences {
        Sequences { spans, query_positions: positions.clone(), positions }
    }

    /// The same, with the places in `queries` (sorted) as the only queries.
    pub fn at(&self, queries: &[u32]) -> Sequences {
        let row = |place: usize| queries.partition_point(|&query| (query as usize) < place);
        let narrowed = |span: &Span| Span { queries: row(span.queries.start)..row(span.queries.end), ..span.clone() };
        Sequences {
            spans: self.spans.iter().map(narrowed).collect(),
            query_positions: queries.iter().map(|&place| self.positions[place as usize]).collect(),
            positions: self.positions.clone(),
        }
    }

    /// Whether the spans take all queries, one after the other, and see no place that there is not.
    pub fn are_whole(&self) -> bool {
        let mut next = 0;
        let consecutive = self.spans.iter().all(|span| {
            let follows = span.queries.start == next && span.queries.end >= next;
            next = span.queries.end;
            follows && span.keys.iter().all(|keys| keys.start <= keys.end && keys.end <= self.places())
        });
        consecutive && next == self.queries()
    }

    /// The sequences, and branches of them.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.query_positions.len()
    }

    /// Number of places.
    pub fn places(&self) -> usize {
        self.positions.len()
    }

    /// The position of each query in its sequence.
    pub fn query_positions(&self) -> &[u32] {
        &self.query_positions
    }

    /// The position of each place in its sequence.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// The positions of the keys of a span, rising.
    pub fn key_positions(&self, span: &Span) -> Vec<u32> {
        span.keys.iter().flat_map(|range| &self.positions[range.clone()]).copied().collect()
    }

    /// Places of the longest sequence.
    pub fn longest(&self) -> usize {
        self.positions.iter().max().map_or(0, |&position| position as usize + 1)
    }
}
