//! How the tokens of a batch belong together: which sequence each is of, where in it, and what it can see.

use std::ops::Range;

/// Sequences side by side, without padding. Queries are all tokens, or those alone whose output is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    spans: Vec<Span>,
    query_positions: Vec<u32>,
    positions: Vec<u32>,
}

/// The queries of one sequence, and the tokens whose keys they may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Rows of the queries.
    pub queries: Range<usize>,
    /// Tokens, in the order of their positions: one run, or the prompt's and then a completion's own.
    pub keys: Vec<Range<usize>>,
}

impl Span {
    /// Tokens that see one another and what lies before them in the same run.
    pub fn alone(tokens: Range<usize>) -> Span {
        Span { queries: tokens.clone(), keys: vec![tokens] }
    }

    /// Tokens that see those of `before` too.
    pub fn after(before: Range<usize>, tokens: Range<usize>) -> Span {
        Span { queries: tokens.clone(), keys: vec![before, tokens] }
    }
}

impl Sequences {
    /// Every token is a query. `positions` are those of the tokens in their sequences; `spans` cover all tokens.
    pub fn new(spans: Vec<Span>, positions: Vec<u32>) -> Sequences {
        Sequences { spans, query_positions: positions.clone(), positions }
    }

    /// The same, with the tokens in `queries` (sorted) as the only queries.
    pub fn at(&self, queries: &[u32]) -> Sequences {
        let row = |token: usize| queries.partition_point(|&query| (query as usize) < token);
        let narrowed = |span: &Span| Span { queries: row(span.queries.start)..row(span.queries.end), ..span.clone() };
        Sequences {
            spans: self.spans.iter().map(narrowed).collect(),
            query_positions: queries.iter().map(|&token| self.positions[token as usize]).collect(),
            positions: self.positions.clone(),
        }
    }

    /// Whether the spans take all queries, one after the other, and see no token that there is not.
    pub fn are_whole(&self) -> bool {
        let mut next = 0;
        let consecutive = self.spans.iter().all(|span| {
            let follows = span.queries.start == next && span.queries.end >= next;
            next = span.queries.end;
            follows && span.keys.iter().all(|keys| keys.start <= keys.end && keys.end <= self.tokens())
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

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.positions.len()
    }

    /// The position of each query in its sequence.
    pub fn query_positions(&self) -> &[u32] {
        &self.query_positions
    }

    /// The position of each token in its sequence.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// The positions of the keys of a span, rising.
    pub fn key_positions(&self, span: &Span) -> Vec<u32> {
        span.keys.iter().flat_map(|range| &self.positions[range.clone()]).copied().collect()
    }

    /// Tokens of the longest sequence.
    pub fn longest(&self) -> usize {
        self.positions.iter().max().map_or(0, |&position| position as usize + 1)
    }
}
