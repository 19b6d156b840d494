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
mod tasks;
mod tile;
mod turn;

pub use plan::AttentionPlan;

use std::cell::RefCell;
use std::sync::Arc;

use dfdx::prelude::*;

use self::plan::Group;
use self::product::COLUMNS;
use self::softmax::{softmax, softmax_backward};
use self::tasks::{Filled, Sheet, fill};
use self::tile::{TILE, Tile, Turned};
use super::tape::{Act, record};
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
    // A task starts no parallel loop, so no other task can want this thread's buffers meanwhile.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
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
    fill(plan, heads, [plan.like_queries(out, heads)], |group, kv, _, [out]| {
        SCRATCH.with_borrow_mut(|buf| forward_task([q, k, v], heads, group, kv, buf, out))
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
    let saved = Saved { q, k, v, out, grad };
    let results = [plan.like_queries(gq, heads), plan.like_keys(gk, heads), plan.like_keys(gv, heads)];
    fill(plan, heads, results, |group, kv, t, sheets| {
        SCRATCH.with_borrow_mut(|buf| backward_task(&saved, &lse[t], heads, group, kv, buf, sheets));
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
