//! Who attends to whom in a packed batch, worked out once and used by every layer.

use super::Heads;
use crate::profile::Work;
use crate::{ModelError, PackedView};

/// Consecutive keys of one segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// First packed row.
    pub(crate) start: usize,
    /// First row within the root group (the root's rows come first).
    pub(crate) local: usize,
    /// Number of rows.
    pub(crate) len: usize,
}

/// Consecutive queries of one segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queries {
    /// First row in the matrix of queries.
    pub(crate) start: usize,
    /// First row among the queries of the root group.
    pub(crate) local: usize,
    /// Number of rows.
    pub(crate) len: usize,
    /// Rows of the segment before the first query.
    pub(crate) skipped: usize,
}

/// One segment of a root group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    prefix: Option<Span>,
    /// The segment's own keys.
    pub(crate) own: Span,
    /// Those of its rows that ask.
    pub(crate) queries: Queries,
}

impl Segment {
    /// Number of keys in its prefix.
    pub(crate) fn prefix_len(&self) -> usize {
        self.prefix.map_or(0, |span| span.len)
    }

    /// The first `keys` keys that it sees, each span with the number of keys before it.
    pub(crate) fn first_keys(&self, keys: usize) -> impl Iterator<Item = (usize, Span)> {
        let prefix = self.prefix_len();
        let of_prefix = self.prefix.map(|span| (0, Span { len: span.len.min(keys), ..span }));
        let of_own = (keys > prefix).then(|| (prefix, Span { len: keys - prefix, ..self.own }));
        of_prefix.into_iter().chain(of_own)
    }
}

/// A root segment and all segments that have it as prefix.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// The root first, then the others in packed order.
    pub(crate) segments: Vec<Segment>,
    /// Rows of all its segments together.
    pub(crate) rows: usize,
    /// Queries of all its segments together.
    pub(crate) queries: usize,
}

/// Group and row within it.
type Place = (u32, u32);

/// The attention structure of one packed batch.
#[derive(Debug, Clone)]
pub struct AttentionPlan {
    pub(crate) groups: Vec<Group>,
    /// Of every packed row.
    pub(super) key_places: Vec<Place>,
    /// Of every row of the matrix of queries.
    pub(super) query_places: Vec<Place>,
    positions: Vec<u32>,
}

impl AttentionPlan {
    /// Works out the plan of a batch; every row is a query.
    ///
    /// # Errors
    /// As [`PackedView::validate`], for the fields that matter here (offsets and prefixes).
    pub fn new(batch: &PackedView<'_>) -> Result<Self, ModelError> {
        batch.validate(usize::MAX)?;
        let mut groups: Vec<Group> = Vec::new();
        let mut group_of = Vec::with_capacity(batch.segments());
        let mut places = Vec::with_capacity(batch.tokens());
        let mut positions = Vec::with_capacity(batch.tokens());
        for (s, prefix) in batch.segment_prefix.iter().enumerate() {
            let start = batch.segment_offsets[s] as usize;
            let len = batch.segment_offsets[s + 1] as usize - start;
            let group = match *prefix {
                Some(p) => group_of[p as usize],
                None => {
                    groups.push(Group { segments: Vec::new(), rows: 0, queries: 0 });
                    groups.len() - 1
                }
            };
            group_of.push(group);
            let at = &mut groups[group];
            let (local, prefix) = (at.rows, prefix.map(|_| at.segments[0].own));
            let own = Span { start, local, len };
            let queries = Queries { start, local, len, skipped: 0 };
            at.segments.push(Segment { prefix, own, queries });
            at.rows += len;
            at.queries += len;
            // The batch holds fewer than 2^32 tokens, so all of these fit.
            places.extend((local..local + len).map(|row| (group as u32, row as u32)));
            let before = prefix.map_or(0, |span| span.len);
            positions.extend((before..before + len).map(|p| p as u32));
        }
        Ok(Self { groups, key_places: places.clone(), query_places: places, positions })
    }

    /// The same keys, asked by fewer queries: in each segment those from the first to the last of its `wanted` packed
    /// rows. Returns the packed rows that ask, ascending.
    ///
    /// # Panics
    /// If a wanted row is out of range.
    #[must_use]
    pub fn asked_by(&self, wanted: &[u32]) -> (Self, Vec<u32>) {
        let mut is_wanted = vec![false; self.rows()];
        for row in wanted {
            is_wanted[*row as usize] = true;
        }
        let mut plan = Self { query_places: Vec::with_capacity(self.rows()), ..self.clone() };
        let mut rows = Vec::with_capacity(self.rows());
        for group in &mut plan.groups {
            group.queries = 0;
        }
        // Segments in packed order, so that the queries of the whole matrix ascend.
        let segments = plan
            .groups
            .iter()
            .enumerate()
            .flat_map(|(g, group)| (0..group.segments.len()).map(move |s| (g, s)));
        let mut order: Vec<(usize, usize)> = segments.collect();
        order.sort_by_key(|(g, s)| plan.groups[*g].segments[*s].own.start);
        for (g, s) in order {
            let group = &mut plan.groups[g];
            let Span { start, len, .. } = group.segments[s].own;
            let of_segment = &is_wanted[start..start + len];
            let first = of_segment.iter().position(|wanted| *wanted).unwrap_or(len);
            let end = of_segment.iter().rposition(|wanted| *wanted).map_or(first, |last| last + 1);
            let (local, len) = (group.queries, end - first);
            group.segments[s].queries = Queries { start: rows.len(), local, len, skipped: first };
            group.queries += len;
            plan.query_places.extend((local..local + len).map(|row| (g as u32, row as u32)));
            rows.extend((start + first..start + end).map(|row| row as u32));
        }
        (plan, rows)
    }

    /// Number of packed rows: of keys and values.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.key_places.len()
    }

    /// Number of rows that ask.
    #[must_use]
    pub fn queries(&self) -> usize {
        self.query_places.len()
    }

    /// Rotary position of every packed row: the prefix's length plus the offset within the segment.
    #[must_use]
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// What the forward pass has to compute and to move: scores and weighted sums of the visible keys only.
    pub(crate) fn work(&self, heads: Heads) -> Work {
        let segments = self.groups.iter().flat_map(|group| &group.segments);
        let scores = |s: &Segment| {
            let Queries { len, skipped, .. } = s.queries;
            len * (s.prefix_len() + skipped) + len * (len + 1) / 2
        };
        let scores: usize = segments.map(scores).sum();
        let floats = 2 * heads.dim * (self.queries() * heads.query + self.rows() * heads.kv);
        let flops = 4 * (scores * heads.query * heads.dim) as u64;
        Work { flops, bytes: 4 * floats as u64 }
    }
}
