//! A batch cut into lanes: parts with prompts of their own, which need nothing of each other but a sum of gradients.
//!
//! Threads that share one op wait for each other at its end, hundreds of times a step; lanes meet twice. A lane runs all
//! its ops on one thread, products included, and adds to gradient buffers of its own; these are added up in the order of
//! the lanes. How a batch is cut depends on its shape and on the number of lanes, not on how many threads there are:
//! fewer threads than lanes take several each, and the bits are the same.

use rayon::ThreadPool;

use crate::PackedView;

/// A part of a packed batch that stands by itself, with its own indices.
#[derive(Debug, Default, Clone)]
pub(super) struct Lane {
    ids: Vec<u32>,
    segment_offsets: Vec<u32>,
    segment_prefix: Vec<Option<u32>>,
    rows: Vec<u32>,
    targets: Vec<u32>,
    sequence_offsets: Vec<u32>,
    /// Which sequences of the whole batch these are, in order.
    pub(super) sequences: Vec<usize>,
}

impl Lane {
    pub(super) fn view(&self) -> PackedView<'_> {
        PackedView {
            ids: &self.ids,
            segment_offsets: &self.segment_offsets,
            segment_prefix: &self.segment_prefix,
            rows: &self.rows,
            targets: &self.targets,
            sequence_offsets: &self.sequence_offsets,
        }
    }
}

/// Most that the fullest lane may hold, as a multiple of the mean: beyond it, lanes would wait longer than shared ops do.
const UNEVEN: f64 = 1.25;

/// Tokens below which a lane is not worth a thread.
const LEAST_TOKENS: usize = 64;

/// Cuts a valid batch into at most `count` lanes of about the same number of tokens; `None` if one lane is better: the
/// batch is small or uneven, or a sequence spans several prompts.
pub(super) fn cut(batch: &PackedView<'_>, count: usize) -> Option<Vec<Lane>> {
    let count = count.min(batch.tokens() / LEAST_TOKENS);
    if count < 2 {
        return None;
    }
    // A group is a root segment with the segments that have it as prefix.
    let mut group_of = Vec::with_capacity(batch.segments());
    let mut tokens: Vec<usize> = Vec::new();
    for (s, prefix) in batch.segment_prefix.iter().enumerate() {
        let group = match prefix {
            Some(root) => group_of[*root as usize],
            None => {
                tokens.push(0);
                tokens.len() - 1
            }
        };
        group_of.push(group);
        tokens[group] += (batch.segment_offsets[s + 1] - batch.segment_offsets[s]) as usize;
    }
    let lane_of = deal(&tokens, count)?;
    let mut lanes =
        vec![Lane { segment_offsets: vec![0], sequence_offsets: vec![0], ..Lane::default() }; count];
    // Lane of every token, and where the token and the segment lie in it.
    let mut place = Vec::with_capacity(batch.tokens());
    let mut segment_place = Vec::with_capacity(batch.segments());
    for (s, prefix) in batch.segment_prefix.iter().enumerate() {
        let index = lane_of[group_of[s]];
        let lane = &mut lanes[index];
        let span = batch.segment_offsets[s] as usize..batch.segment_offsets[s + 1] as usize;
        let start = lane.ids.len();
        place.extend((start..start + span.len()).map(|at| (index, at as u32)));
        lane.ids.extend_from_slice(&batch.ids[span]);
        lane.segment_offsets.push(lane.ids.len() as u32);
        segment_place.push(lane.segment_prefix.len() as u32);
        lane.segment_prefix.push(prefix.map(|root| segment_place[root as usize]));
    }
    for q in 0..batch.sequences() {
        let rows = batch.sequence(q);
        let index = place[batch.rows[rows.start] as usize].0;
        let lane = &mut lanes[index];
        for row in rows {
            let (of, at) = place[batch.rows[row] as usize];
            if of != index {
                return None;
            }
            lane.rows.push(at);
            lane.targets.push(batch.targets[row]);
        }
        lane.sequence_offsets.push(lane.rows.len() as u32);
        lane.sequences.push(q);
    }
    Some(lanes)
}

/// Deals groups of the given sizes to `count` lanes, the largest first, each to the emptiest lane.
fn deal(sizes: &[usize], count: usize) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|group| std::cmp::Reverse(sizes[*group]));
    let mut load = vec![0; count];
    let mut lane_of = vec![0; sizes.len()];
    for group in order {
        let lane = (0..count).min_by_key(|lane| load[*lane]).unwrap_or(0);
        lane_of[group] = lane;
        load[lane] += sizes[group];
    }
    let (most, all) = (load.iter().copied().max()?, load.iter().sum::<usize>());
    (most as f64 <= UNEVEN * all as f64 / count as f64).then_some(lane_of)
}

/// Threads with a rayon pool of their own each, so that whatever runs there finds itself alone.
#[derive(Debug, Default)]
pub(super) struct Threads(Vec<ThreadPool>);

impl Threads {
    /// Makes sure that there are `count`; fewer if the system refuses.
    pub(super) fn grow(&mut self, count: usize) -> usize {
        while self.0.len() < count {
            let name = format!("lane-{}", self.0.len());
            match rayon::ThreadPoolBuilder::new().num_threads(1).thread_name(move |_| name.clone()).build() {
                Ok(pool) => self.0.push(pool),
                Err(_) => break,
            }
        }
        self.0.len()
    }

    /// Runs one task on each of the first threads while `here` runs on this one; ends when all have.
    pub(super) fn run<'a, R>(
        &self,
        tasks: Vec<Box<dyn FnOnce() + Send + 'a>>,
        here: impl FnOnce() -> R + 'a,
    ) -> R {
        nested(&self.0, tasks, here)
    }
}

fn nested<'a, R>(
    pools: &[ThreadPool],
    mut tasks: Vec<Box<dyn FnOnce() + Send + 'a>>,
    here: impl FnOnce() -> R + 'a,
) -> R {
    match tasks.pop() {
        None => here(),
        Some(task) => pools[tasks.len()].in_place_scope(|scope| {
            scope.spawn(move |_| task());
            nested(pools, tasks, here)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deals_evenly_or_not_at_all() {
        assert_eq!(deal(&[10, 10, 10, 10], 2), Some(vec![0, 1, 0, 1]));
        assert_eq!(deal(&[9, 1, 5, 4], 2), Some(vec![0, 0, 1, 1]));
        assert_eq!(deal(&[10, 10, 10], 2), None, "20 and 10");
        assert_eq!(deal(&[100], 2), None);
    }

    #[test]
    fn lanes_hold_the_whole_batch() {
        // Two pairs of prompt 40, completions 20 and 10.
        let ids: Vec<u32> = (0..140).collect();
        let mut rows = Vec::new();
        let mut sequence_offsets = vec![0u32];
        for base in [0u32, 70] {
            for (start, len) in [(base + 40, 20), (base + 60, 10)] {
                rows.push(base + 39);
                rows.extend(start..start + len);
                sequence_offsets.push(rows.len() as u32);
            }
        }
        let targets: Vec<u32> = rows.iter().map(|row| row + 1000).collect();
        let batch = PackedView {
            ids: &ids,
            segment_offsets: &[0, 40, 60, 70, 110, 130, 140],
            segment_prefix: &[None, Some(0), Some(0), None, Some(3), Some(3)],
            rows: &rows,
            targets: &targets,
            sequence_offsets: &sequence_offsets,
        };
        batch.validate(2000).unwrap();
        let lanes = cut(&batch, 2).unwrap();
        for (i, lane) in lanes.iter().enumerate() {
            let view = lane.view();
            view.validate(2000).unwrap();
            let base = 70 * i as u32;
            assert_eq!(view.ids, &ids[70 * i..70 * (i + 1)]);
            assert_eq!(view.segment_prefix, &[None, Some(0), Some(0)]);
            assert_eq!(lane.sequences, [2 * i, 2 * i + 1]);
            for (row, target) in view.rows.iter().zip(view.targets) {
                assert_eq!(target - 1000, row + base);
            }
        }
        assert!(cut(&batch, 1).is_none());
        // A sequence that reads rows of both prompts keeps them together.
        let mixed = PackedView { rows: &[3, 100], targets: &[1, 1], sequence_offsets: &[0, 2], ..batch };
        assert!(cut(&mixed, 2).is_none());
    }
}
