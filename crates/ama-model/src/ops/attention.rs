//! Causal grouped-query attention over packed segments with a shared prefix.
//!
//! `s_ij = q_i . k_j / sqrt(head_dim)`, `p_ij = exp(s_ij - lse_i)`, `o_i = sum_j p_ij v_j`, where `j` runs over all of
//! the segment's prefix and over the segment itself up to `i`. Queries and keys come rotated (see [`super::rope`]).
//!
//! No `n x n` matrix is kept: scores live in a tile of some queries of one segment, and the backward pass computes
//! them again from the saved log-sum-exp (Dao et al. 2022, arXiv 2205.14135, algorithm 4):
//! `dp_ij = go_i . v_j`, `D_i = go_i . o_i`, `ds_ij = p_ij (dp_ij - D_i) / sqrt(head_dim)`,
//! `gq_i = sum_j ds_ij k_j`, `gk_j = sum_i ds_ij q_i`, `gv_j = sum_i p_ij go_i`.
//!
//! A tile's scores are `[keys, queries]`, queries side by side in a register: the softmax runs down the columns, keys and
//! values are read where they lie, and keys that no query of the tile may see are not touched. The queries of a tile are
//! those of the query heads that share a key/value head, `query = row * shared + head`.
//!
//! One task is a *root group* (a prompt and its completions) and a key/value head with its query heads. Gradients of a
//! prompt's keys and values sum over its completions inside the task, in segment order: nothing depends on scheduling.

mod plan;
mod product;
mod softmax;
mod turn;

pub use plan::AttentionPlan;

use std::cell::RefCell;
use std::sync::Arc;

use dfdx::prelude::*;
use rayon::prelude::*;

use self::plan::{Group, Queries, Segment};
use self::product::{COLUMNS, Lying, product};
use self::softmax::{softmax, softmax_backward};
use self::turn::{to_column, to_row};
use super::tape::{Act, record};
use super::{GRAIN, rows_per_task};
use crate::ModelError;
use crate::profile::{Op, Pass, Work, timed};
use crate::simd::{dot_short, kernel};

/// Head counts and width of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads; a multiple of `kv`.
    pub query: usize,
    /// Key/value heads.
    pub kv: usize,
    /// Width of a head.
    pub dim: usize,
}

impl Heads {
    /// Query heads that share a key/value head.
    fn shared(self) -> usize {
        self.query / self.kv
    }

    /// Row width of the queries and of the output of one key/value head.
    fn width(self) -> usize {
        self.shared() * self.dim
    }
}

/// Most queries in a tile: two registers of each row of scores.
const TILE: usize = 2 * COLUMNS;

/// Rows of a tile's operands as they lie, one for each query, and turned, one for each number of a head.
#[derive(Default)]
struct Turned {
    /// `[queries, width]`, `width` the head's filled up to whole [`COLUMNS`].
    rows: Vec<f32>,
    /// `[dim, queries]`.
    columns: Vec<f32>,
}

/// A thread's buffers: their contents never outlive a task, only their memory does.
#[derive(Default)]
struct Scratch {
    q: Turned,
    go: Turned,
    scores: Vec<f32>,
    dp: Vec<f32>,
    /// `[dim, queries]`
    result: Vec<f32>,
    gk: Vec<f32>,
    gv: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Rows that a task reads or writes: the columns of one key/value head.
struct Sheet<'a> {
    data: &'a mut [f32],
    stride: usize,
    column: usize,
    /// Whether these are the rows of one group alone.
    local: bool,
}

impl Sheet<'_> {
    /// `width` columns of the row that has this number in the whole matrix and in its group.
    fn row(&mut self, start: usize, local: usize, column: usize, width: usize) -> &mut [f32] {
        let row = if self.local { local } else { start };
        &mut self.data[row * self.stride + self.column + column..][..width]
    }
}

/// Up to [`TILE`] consecutive queries of one segment and key/value head.
struct Tile<'a> {
    segment: &'a Segment,
    heads: Heads,
    kv: usize,
    /// Number of its first query among the segment's.
    first: usize,
    count: usize,
    /// Columns of the scores, `count` filled up.
    n: usize,
    /// Keys that the last query sees.
    keys: usize,
    /// Row among the segment's queries and column among the key/value head's of each query. Those beyond `count` repeat
    /// the last.
    at: [(usize, usize); TILE],
    /// Keys that each column sees.
    visible: [u32; TILE],
}

impl<'a> Tile<'a> {
    /// All tiles of a segment, in order.
    fn all(segment: &'a Segment, heads: Heads, kv: usize) -> impl Iterator<Item = Self> {
        let queries = segment.queries.len * heads.shared();
        (0..queries).step_by(TILE).map(move |first| {
            let count = TILE.min(queries - first);
            let (mut row, mut head) = (first / heads.shared(), first % heads.shared());
            let mut at = [(row, head * heads.dim); TILE];
            for i in 1..TILE {
                if i < count {
                    head += 1;
                    if head == heads.shared() {
                        (row, head) = (row + 1, 0);
                    }
                }
                at[i] = (row, head * heads.dim);
            }
            let before = segment.prefix_len() + segment.queries.skipped + 1;
            // A packed batch has fewer than 2^32 rows.
            let visible = at.map(|(row, _)| (before + row) as u32);
            let n = count.next_multiple_of(COLUMNS);
            Self { segment, heads, kv, first, count, n, keys: before + row, at, visible }
        })
    }

    /// The `i`-th query's numbers in a matrix `[queries, query heads * dim]`.
    fn read<'m>(&self, from: &'m [f32], i: usize) -> &'m [f32] {
        let (row, column) = self.at[i];
        let at = (self.segment.queries.start + row) * self.heads.query * self.heads.dim;
        &from[at + self.kv * self.heads.width() + column..][..self.heads.dim]
    }

    /// Copies the tile's queries out of a matrix, rows only if `with_rows`. Columns without a query repeat the last one,
    /// rows without are 0.
    fn turn(&self, from: &[f32], to: &mut Turned, with_rows: bool) {
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
    fn write(&self, columns: &[f32], factor: &[f32], to: &mut Sheet<'_>) {
        let Queries { start, local, .. } = self.segment.queries;
        for (i, factor) in factor[..self.count].iter().enumerate() {
            let (row, column) = self.at[i];
            let to = to.row(start + row, local + row, column, self.heads.dim);
            to_row(columns, self.n, i, *factor, to);
        }
    }

    /// `out[key, query] = x_key . y_query` over all keys of the tile, `y` `[dim, n]`.
    fn against_keys(&self, x: &[f32], y: &[f32], out: &mut Vec<f32>) {
        let (dim, n) = (self.heads.dim, self.n);
        out.resize(self.keys * n, 0.0);
        for (before, span) in self.segment.first_keys(self.keys) {
            let a = Lying::ByRow { data: self.columns_of(x, span.start), stride: self.heads.kv * dim };
            product(&mut out[before * n..(before + span.len) * n], a, y, (span.len, n, dim), false);
        }
    }

    /// `out[., query] = sum_key w[key, query] x_key`, `[dim, n]`.
    fn over_keys(&self, x: &[f32], w: &[f32], out: &mut Vec<f32>) {
        let (dim, n) = (self.heads.dim, self.n);
        out.resize(dim * n, 0.0);
        for (before, span) in self.segment.first_keys(self.keys) {
            let a = Lying::ByColumn { data: self.columns_of(x, span.start), stride: self.heads.kv * dim };
            product(out, a, &w[before * n..(before + span.len) * n], (dim, n, span.len), before > 0);
        }
    }

    /// `out[key] += sum_query w[key, query] y_query`, rows of the group and `width` wide; `y` `[n, width]`.
    fn to_keys(&self, w: &[f32], y: &[f32], out: &mut [f32]) {
        let (n, width) = (self.n, self.heads.dim.next_multiple_of(COLUMNS));
        for (before, span) in self.segment.first_keys(self.keys) {
            let a = Lying::ByRow { data: &w[before * n..(before + span.len) * n], stride: n };
            let out = &mut out[span.local * width..(span.local + span.len) * width];
            product(out, a, y, (span.len, width, n), true);
        }
    }

    /// A matrix of keys or values from this packed row and the key/value head's first column on.
    fn columns_of<'m>(&self, keys: &'m [f32], row: usize) -> &'m [f32] {
        &keys[(row * self.heads.kv + self.kv) * self.heads.dim..]
    }

    /// Where its queries lie among those of the group's task: `query = row * shared + head`.
    fn in_task(&self) -> std::ops::Range<usize> {
        let first = self.segment.queries.local * self.heads.shared() + self.first;
        first..first + self.count
    }
}

kernel! {
    /// `a . b`
    fn dot(a: &'a [f32], b: &'a [f32]) -> f32 {
        dot_short::<S>(a, b)
    }
}

/// The factor in front of the scores.
fn scale(heads: Heads) -> f32 {
    1.0 / (heads.dim as f32).sqrt()
}

/// Forward of one root group and key/value head; `lse` `[group queries, shared]`.
fn forward_task(
    [q, k, v]: [&[f32]; 3],
    heads: Heads,
    group: &Group,
    kv: usize,
    buf: &mut Scratch,
    out: &mut Sheet<'_>,
) -> Vec<f32> {
    let mut lse = vec![0.0; group.queries * heads.shared()];
    for tile in group.segments.iter().flat_map(|segment| Tile::all(segment, heads, kv)) {
        tile.turn(q, &mut buf.q, false);
        tile.against_keys(k, &buf.q.columns, &mut buf.scores);
        let (mut logs, mut sums) = ([0.0; TILE], [0.0; TILE]);
        softmax(&mut buf.scores, tile.n, &tile.visible, scale(heads), &mut logs, &mut sums);
        lse[tile.in_task()].copy_from_slice(&logs[..tile.count]);
        tile.over_keys(v, &buf.scores, &mut buf.result);
        tile.write(&buf.result, &sums.map(|sum| 1.0 / sum), out);
    }
    lse
}

/// What the backward pass reads.
struct Saved<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a [f32],
    lse: &'a [Vec<f32>],
    grad: &'a [f32],
}

/// Backward of one root group and key/value head.
fn backward_task(
    saved: &Saved<'_>,
    lse: &[f32],
    heads: Heads,
    group: &Group,
    kv: usize,
    buf: &mut Scratch,
    [gq, gk, gv]: &mut [Sheet<'_>; 3],
) {
    let width = heads.dim.next_multiple_of(COLUMNS);
    for grad in [&mut buf.gk, &mut buf.gv] {
        grad.clear();
        grad.resize(group.rows * width, 0.0);
    }
    for tile in group.segments.iter().flat_map(|segment| Tile::all(segment, heads, kv)) {
        tile.turn(saved.q, &mut buf.q, true);
        tile.turn(saved.grad, &mut buf.go, true);
        let lse = &lse[tile.in_task()];
        let logs: [f32; TILE] = std::array::from_fn(|i| lse[i.min(tile.count - 1)]);
        let go_o =
            std::array::from_fn::<f32, TILE, _>(|i| dot(tile.read(saved.grad, i), tile.read(saved.out, i)));
        tile.against_keys(saved.k, &buf.q.columns, &mut buf.scores);
        tile.against_keys(saved.v, &buf.go.columns, &mut buf.dp);
        softmax_backward(&mut buf.scores, &mut buf.dp, tile.n, &tile.visible, scale(heads), &logs, &go_o);
        tile.over_keys(saved.k, &buf.dp, &mut buf.result);
        tile.write(&buf.result, &[1.0; TILE], gq);
        tile.to_keys(&buf.dp, &buf.q.rows, &mut buf.gk);
        tile.to_keys(&buf.scores, &buf.go.rows, &mut buf.gv);
    }
    for (to, from) in [(gk, &buf.gk), (gv, &buf.gv)] {
        for own in group.segments.iter().map(|segment| segment.own) {
            let rows = from[own.local * width..].chunks_exact(width).take(own.len);
            for (i, row) in rows.enumerate() {
                to.row(own.start + i, own.local + i, 0, heads.dim).copy_from_slice(&row[..heads.dim]);
            }
        }
    }
}

/// A matrix that tasks fill together: `[rows, kv heads * width]`, each task the columns of its head in the rows of its group.
struct Filled<'a> {
    data: &'a mut [f32],
    width: usize,
    /// Group and row within it of each row.
    places: &'a [(u32, u32)],
    /// Rows of a group.
    rows: fn(&Group) -> usize,
}

/// Runs the task of every root group and key/value head, to fill the matrices. Little work, or a thread that is alone,
/// writes them directly; else every task fills blocks of its own, which are put together in the end.
fn fill<const N: usize, R: Send + Sync>(
    plan: &AttentionPlan,
    heads: Heads,
    mut matrices: [Filled<'_>; N],
    task: impl Fn(&Group, usize, usize, &mut Scratch, &mut [Sheet<'_>; N]) -> R + Sync,
) -> Vec<R> {
    let tasks = plan.groups.len() * heads.kv;
    let work = plan.queries() * heads.query * heads.dim;
    // A task starts no parallel loop of its own, so no other task can borrow this thread's buffers meanwhile.
    let run = |t: usize, sheets: &mut [Sheet<'_>; N]| {
        let (group, kv) = (t / heads.kv, t % heads.kv);
        SCRATCH.with_borrow_mut(|buf| task(&plan.groups[group], kv, t, buf, sheets))
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
fn put_together<'t>(to: &mut Filled<'_>, kv: usize, block: impl Fn(usize) -> &'t [f32] + Sync) {
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

/// Attention of a packed batch.
///
/// `q` and `out` `[queries, query heads * dim]`, `k` and `v` `[rows, kv heads * dim]`, rotated. Returns the log-sum-exp
/// per task, which [`attention_backward`] wants.
///
/// # Panics
/// If a length does not fit.
pub fn attention_forward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    heads: Heads,
    plan: &AttentionPlan,
    out: &mut [f32],
) -> Vec<Vec<f32>> {
    let (queries, keys) = (plan.queries() * heads.query * heads.dim, plan.rows() * heads.kv * heads.dim);
    assert!(q.len() == queries && out.len() == queries, "q and out are [queries, query heads * dim]");
    assert!(k.len() == keys && v.len() == keys, "k and v are [rows, kv heads * dim]");
    fill(plan, heads, [plan.like_queries(out, heads)], |group, kv, _, buf, [out]| {
        forward_task([q, k, v], heads, group, kv, buf, out)
    })
}

/// Gradients of [`attention_forward`], written (not added) to `gq`, `gk` and `gv`.
///
/// # Panics
/// If a length does not fit.
#[allow(clippy::too_many_arguments, reason = "three operands, the output, its gradient, and three results")]
pub fn attention_backward(
    [q, k, v]: [&[f32]; 3],
    out: &[f32],
    lse: &[Vec<f32>],
    grad: &[f32],
    heads: Heads,
    plan: &AttentionPlan,
    [gq, gk, gv]: [&mut [f32]; 3],
) {
    assert!(out.len() == q.len() && grad.len() == q.len() && gq.len() == q.len(), "shapes of q");
    assert!(v.len() == k.len() && gk.len() == k.len() && gv.len() == k.len(), "shapes of k");
    let saved = Saved { q, k, v, out, lse, grad };
    let results = [plan.like_queries(gq, heads), plan.like_keys(gk, heads), plan.like_keys(gv, heads)];
    fill(plan, heads, results, |group, kv, t, buf, sheets| {
        backward_task(&saved, &saved.lse[t], heads, group, kv, buf, sheets);
    });
}

impl AttentionPlan {
    fn like_queries<'a>(&'a self, data: &'a mut [f32], heads: Heads) -> Filled<'a> {
        Filled { data, width: heads.width(), places: &self.query_places, rows: |group| group.queries }
    }

    fn like_keys<'a>(&'a self, data: &'a mut [f32], heads: Heads) -> Filled<'a> {
        Filled { data, width: heads.dim, places: &self.key_places, rows: |group| group.rows }
    }
}

/// Tape op; `q`, `k` and `v` must have no other consumer.
pub(crate) fn attention<T: Tape<f32, Cpu>>(
    tape: &mut T,
    [q, k, v]: [Act; 3],
    heads: Heads,
    plan: &Arc<AttentionPlan>,
) -> Result<Act, ModelError> {
    let work = plan.work(heads);
    let mut out = q.workspace().buffer(q.values().len());
    let lse = timed(Op::Attention, Pass::Forward, work, || {
        attention_forward(q.values(), k.values(), v.values(), heads, plan, &mut out)
    });
    let out = q.beside(out)?;
    // The output itself is needed again, but a clone shares its buffer.
    let (kept, plan) = (out.clone(), Arc::clone(plan));
    record(tape, move |grads| {
        let grad = kept.name().take(grads)?;
        let [gq, gk, gv] = [&q, &k, &v].map(|operand| operand.name().take_to_write(grads));
        let [mut gq, mut gk, mut gv] = [gq?.values, gk?.values, gv?.values];
        let operands = [q.values(), k.values(), v.values()];
        timed(
            Op::Attention,
            Pass::Backward,
            Work { flops: work.flops * 5 / 2, bytes: work.bytes * 2 },
            || {
                attention_backward(
                    operands,
                    kept.values(),
                    &lse,
                    &grad,
                    heads,
                    &plan,
                    [&mut gq, &mut gk, &mut gv],
                );
            },
        );
        q.name().put(grads, gq)?;
        k.name().put(grads, gk)?;
        v.name().put(grads, gv)
    });
    Ok(out)
}
