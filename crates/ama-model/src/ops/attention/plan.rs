//! Who attends to whom in a packed batch, worked out once and used by every layer.

use super::Heads;
use crate::profile::Work;
use crate::{ModelError, PackedView};

/// Consecutive packed rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) len: usize,
}

/// One segment of a root group.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// First row of the segment within its group (the root's rows come first).
    pub(crate) local: usize,
    /// The keys it sees: its prefix if it has one, then itself.
    spans: [Span; 2],
}

impl Segment {
    /// Spans of packed rows whose keys it sees, the segment's own last.
    pub(crate) fn keys(&self) -> &[Span] {
        if self.spans[0].len == 0 { &self.spans[1..] } else { &self.spans }
    }

    /// The segment's own rows.
    pub(crate) fn own(&self) -> Span {
        self.spans[1]
    }

    /// Number of keys in its prefix.
    pub(crate) fn prefix_len(&self) -> usize {
        self.spans[0].len
    }
}

/// A root segment and all segments that have it as prefix.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Its place among the groups.
    pub(crate) index: usize,
    /// The root first, then the others in packed order.
    pub(crate) segments: Vec<Segment>,
    /// Rows of all its segments together.
    pub(crate) rows: usize,
}

/// The attention structure of one packed batch.
#[derive(Debug, Clone)]
pub struct AttentionPlan {
    pub(crate) groups: Vec<Group>,
    /// Per packed row: its group and its row within the group.
    places: Vec<(u32, u32)>,
    positions: Vec<u32>,
}

impl AttentionPlan {
    /// Works out the plan of a batch.
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
            let own = Span { start, len: batch.segment_offsets[s + 1] as usize - start };
            let (group, shared) = match *prefix {
                Some(p) => {
                    let group: usize = group_of[p as usize];
                    (group, groups[group].segments[0].own())
                }
                None => {
                    groups.push(Group { index: groups.len(), segments: Vec::new(), rows: 0 });
                    (groups.len() - 1, Span { start: 0, len: 0 })
                }
            };
            group_of.push(group);
            let local = groups[group].rows;
            groups[group].segments.push(Segment { local, spans: [shared, own] });
            groups[group].rows += own.len;
            // The batch holds fewer than 2^32 tokens, so all of these fit.
            places.extend((local..local + own.len).map(|row| (group as u32, row as u32)));
            positions.extend((shared.len..shared.len + own.len).map(|p| p as u32));
        }
        Ok(Self { groups, places, positions })
    }

    /// Number of packed rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.places.len()
    }

    /// Rotary position of every packed row: the prefix's length plus the offset within the segment.
    #[must_use]
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// What the forward pass has to compute and to move: scores and weighted sums of the visible keys only.
    pub(crate) fn work(&self, heads: Heads) -> Work {
        let segments = self.groups.iter().flat_map(|group| &group.segments);
        let scores: usize =
            segments.map(|s| s.own().len * s.prefix_len() + s.own().len * (s.own().len + 1) / 2).sum();
        let floats = 2 * self.rows() * heads.dim * (heads.query + heads.kv);
        let flops = 4 * (scores * heads.query * heads.dim) as u64;
        Work { flops, bytes: 4 * floats as u64 }
    }

    /// Group and row within it of a packed row.
    pub(crate) fn place(&self, row: usize) -> (usize, usize) {
        let (group, local) = self.places[row];
        (group as usize, local as usize)
    }
}
