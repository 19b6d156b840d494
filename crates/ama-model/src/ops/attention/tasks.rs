//! The tasks of one call, and how their results come together.

use rayon::prelude::*;

use super::Heads;
use super::plan::{AttentionPlan, Group};
use crate::ops::{GRAIN, rows_per_task};

/// Rows that a task reads or writes: the columns of one key/value head.
pub(super) struct Sheet<'a> {
    data: &'a mut [f32],
    stride: usize,
    column: usize,
    /// Whether these are the rows of one group alone.
    local: bool,
}

impl Sheet<'_> {
    /// `width` columns of the row that has this number in the whole matrix and in its group.
    pub(super) fn row(&mut self, start: usize, local: usize, column: usize, width: usize) -> &mut [f32] {
        let row = if self.local { local } else { start };
        &mut self.data[row * self.stride + self.column + column..][..width]
    }
}

/// A matrix that tasks fill together: `[rows, kv heads * width]`, each task the columns of its head in the rows of its group.
pub(super) struct Filled<'a> {
    pub(super) data: &'a mut [f32],
    pub(super) width: usize,
    /// Group and row within it of each row.
    pub(super) places: &'a [(u32, u32)],
    /// Rows of a group.
    pub(super) rows: fn(&Group) -> usize,
}

/// Runs a task for every root group and key/value head, which fills its part of the matrices; it is also told its number.
///
/// Little work, or a thread that is alone, writes in place; else every task fills blocks of its own, which are put
/// together in the end. The results are in the order of the numbers.
pub(super) fn fill<const N: usize, R: Send + Sync>(
    plan: &AttentionPlan,
    heads: Heads,
    mut matrices: [Filled<'_>; N],
    task: impl Fn(&Group, usize, usize, &mut [Sheet<'_>; N]) -> R + Sync,
) -> Vec<R> {
    let tasks = plan.groups.len() * heads.kv;
    let work = plan.queries() * heads.query * heads.dim;
    let run = |t: usize, sheets: &mut [Sheet<'_>; N]| {
        let (group, kv) = (t / heads.kv, t % heads.kv);
        task(&plan.groups[group], kv, t, sheets)
    };
    if work <= GRAIN || rayon::current_num_threads() == 1 {
        return (0..tasks)
            .map(|t| {
                let mut sheets = matrices.each_mut().map(|m| Sheet {
                    stride: heads.kv * m.width,
                    column: t % heads.kv * m.width,
                    data: &mut *m.data,
                    local: false,
                });
                run(t, &mut sheets)
            })
            .collect();
    }
    let at_least = (GRAIN / 4 * tasks).div_ceil(work).max(1);
    let shapes = matrices.each_ref().map(|m| (m.width, m.rows));
    let alone = |t: usize| {
        let group = &plan.groups[t / heads.kv];
        let mut blocks = shapes.map(|(width, rows)| vec![0.0; rows(group) * width]);
        let mut widths = shapes.iter();
        let mut sheets = blocks.each_mut().map(|block| Sheet {
            data: block,
            stride: widths.next().map_or(0, |(width, _)| *width),
            column: 0,
            local: true,
        });
        let result = run(t, &mut sheets);
        (result, blocks)
    };
    let done: Vec<(R, [Vec<f32>; N])> =
        (0..tasks).into_par_iter().with_min_len(at_least).map(alone).collect();
    for (i, matrix) in matrices.iter_mut().enumerate() {
        put_together(matrix, heads.kv, |t| &done[t].1[i]);
    }
    done.into_iter().map(|(result, _)| result).collect()
}

/// Copies the tasks' blocks `[group rows, width]` to their places.
pub(super) fn put_together<'t>(to: &mut Filled<'_>, kv: usize, block: impl Fn(usize) -> &'t [f32] + Sync) {
    let (width, places) = (to.width, to.places);
    let rows = rows_per_task(kv * width);
    to.data.par_chunks_mut(rows * kv * width).zip(places.par_chunks(rows)).for_each(|(to, places)| {
        for (to, (group, local)) in to.chunks_exact_mut(kv * width).zip(places) {
            for (head, to) in to.chunks_exact_mut(width).enumerate() {
                let at = *local as usize * width;
                to.copy_from_slice(&block(*group as usize * kv + head)[at..at + width]);
            }
        }
    });
}
