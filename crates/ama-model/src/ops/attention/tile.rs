//! A tile: some queries of one segment and key/value head, with everything that they see.

use super::Heads;
use super::plan::{Queries, Segment};
use super::product::{COLUMNS, Lying, product};
use super::tasks::Sheet;
use super::turn::{to_column, to_row};

/// Most queries in a tile: two registers of each row of scores.
pub(super) const TILE: usize = 2 * COLUMNS;

/// Rows of a tile's operands as they lie, one for each query, and turned, one for each number of a head.
#[derive(Default)]
pub(super) struct Turned {
    /// `[queries, width]`, `width` the head's filled up to whole [`COLUMNS`].
    pub(super) rows: Vec<f32>,
    /// `[dim, queries]`.
    pub(super) columns: Vec<f32>,
}

/// Up to [`TILE`] consecutive queries of one segment and key/value head.
pub(super) struct Tile<'a> {
    segment: &'a Segment,
    heads: Heads,
    kv: usize,
    /// Number of its first query among the segment's.
    first: usize,
    pub(super) count: usize,
    /// Columns of the scores, `count` filled up.
    pub(super) n: usize,
    /// Keys that the last query sees.
    keys: usize,
    /// Row among the segment's queries and column among the key/value head's of each query. Those beyond `count` repeat
    /// the last.
    at: [(usize, usize); TILE],
    /// Keys that each column sees.
    pub(super) visible: [u32; TILE],
}

impl<'a> Tile<'a> {
    /// All tiles of a segment, in order.
    pub(super) fn all(segment: &'a Segment, heads: Heads, kv: usize) -> impl Iterator<Item = Self> {
        let queries = segment.queries.len * heads.shared();
        (0..queries).step_by(TILE).map(move |first| {
            let count = TILE.min(queries - first);
            let (mut row, mut head) = (first / heads.shared(), first % heads.shared());
            let mut at = [(row, head * heads.dim); TILE];
            for (i, at) in at.iter_mut().enumerate().skip(1) {
                if i < count {
                    head += 1;
                    if head == heads.shared() {
                        (row, head) = (row + 1, 0);
                    }
                }
                *at = (row, head * heads.dim);
            }
            let before = segment.prefix_len() + segment.queries.skipped + 1;
            // A packed batch has fewer than 2^32 rows.
            let visible = at.map(|(row, _)| (before + row) as u32);
            let n = count.next_multiple_of(COLUMNS);
            Self { segment, heads, kv, first, count, n, keys: before + row, at, visible }
        })
    }

    /// The `i`-th query's numbers in a matrix `[queries, query heads * dim]`.
    pub(super) fn read<'m>(&self, from: &'m [f32], i: usize) -> &'m [f32] {
        let (row, column) = self.at[i];
        let at = (self.segment.queries.start + row) * self.heads.query * self.heads.dim;
        &from[at + self.kv * self.heads.width() + column..][..self.heads.dim]
    }

    /// Copies the tile's queries out of a matrix, rows only if `with_rows`. Columns without a query repeat the last one,
    /// rows without are 0.
    pub(super) fn turn(&self, from: &[f32], to: &mut Turned, with_rows: bool) {
        let (dim, n) = (self.heads.dim, self.n);
        let width = dim.next_multiple_of(COLUMNS);
        to.columns.resize(dim * n, 0.0);
        for q in 0..n {
            to_column(self.read(from, q), &mut to.columns, n, q);
        }
        if with_rows {
            to.rows.clear();
            to.rows.resize(n * width, 0.0);
            for (i, row) in to.rows.chunks_exact_mut(width).take(self.count).enumerate() {
                row[..dim].copy_from_slice(self.read(from, i));
            }
        }
    }

    /// Writes `[dim, n]` times `factor[query]` to the queries' rows of a matrix like that of the queries.
    pub(super) fn write(&self, columns: &[f32], factor: &[f32], to: &mut Sheet<'_>) {
        let Queries { start, local, .. } = self.segment.queries;
        for (i, factor) in factor[..self.count].iter().enumerate() {
            let (row, column) = self.at[i];
            let to = to.row(start + row, local + row, column, self.heads.dim);
            to_row(columns, self.n, i, *factor, to);
        }
    }

    /// `out[key, query] = x_key . y_query` over all keys of the tile, `y` `[dim, n]`.
    pub(super) fn against_keys(&self, x: &[f32], y: &[f32], out: &mut Vec<f32>) {
        let (dim, n) = (self.heads.dim, self.n);
        out.resize(self.keys * n, 0.0);
        for (before, span) in self.segment.first_keys(self.keys) {
            let a = Lying::ByRow { data: self.columns_of(x, span.start), stride: self.heads.kv * dim };
            product(&mut out[before * n..(before + span.len) * n], a, y, (span.len, n, dim), false);
        }
    }

    /// `out[., query] = sum_key w[key, query] x_key`, `[dim, n]`.
    pub(super) fn over_keys(&self, x: &[f32], w: &[f32], out: &mut Vec<f32>) {
        let (dim, n) = (self.heads.dim, self.n);
        out.resize(dim * n, 0.0);
        for (before, span) in self.segment.first_keys(self.keys) {
            let a = Lying::ByColumn { data: self.columns_of(x, span.start), stride: self.heads.kv * dim };
            product(out, a, &w[before * n..(before + span.len) * n], (dim, n, span.len), before > 0);
        }
    }

    /// `out[key] += sum_query w[key, query] y_query`, rows of the group and `width` wide; `y` `[n, width]`.
    pub(super) fn to_keys(&self, w: &[f32], y: &[f32], out: &mut [f32]) {
        let (n, width) = (self.n, self.heads.dim.next_multiple_of(COLUMNS));
        for (before, span) in self.segment.first_keys(self.keys) {
            let a = Lying::ByRow { data: &w[before * n..(before + span.len) * n], stride: n };
            let out = &mut out[span.local * width..(span.local + span.len) * width];
            product(out, a, y, (span.len, width, n), true);
        }
    }

    /// A matrix of keys or values from this packed row and the key/value head's first column on.
    pub(super) fn columns_of<'m>(&self, keys: &'m [f32], row: usize) -> &'m [f32] {
        &keys[(row * self.heads.kv + self.kv) * self.heads.dim..]
    }

    /// Where its queries lie among those of the group's task: `query = row * shared + head`.
    pub(super) fn in_task(&self) -> std::ops::Range<usize> {
        let first = self.segment.queries.local * self.heads.shared() + self.first;
        first..first + self.count
    }
}
