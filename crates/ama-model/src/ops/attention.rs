//! Causal grouped-query attention over packed segments with a shared prefix.
//!
//! `s_ij = q_i . k_j / sqrt(head_dim)`, `p_ij = exp(s_ij - lse_i)`, `o_i = sum_j p_ij v_j`, where `j` runs over all of
//! the segment's prefix and over the segment itself up to `i`. Queries and keys come rotated (see [`super::rope`]).
//!
//! No `n x n` matrix is kept: scores live in a tile of some query rows of one segment, and the backward pass computes
//! them again from the saved log-sum-exp (Dao et al. 2022, arXiv 2205.14135, algorithm 4):
//! `dp_ij = go_i . v_j`, `D_i = go_i . o_i`, `ds_ij = p_ij (dp_ij - D_i) / sqrt(head_dim)`,
//! `gq_i = sum_j ds_ij k_j`, `gk_j = sum_i ds_ij q_i`, `gv_j = sum_i p_ij go_i`.
//!
//! One task is a *root group* (a prompt and its completions) and a key/value head with its query heads. The query heads
//! of one key/value head lie side by side in a row, so `rows x heads` queries are one contiguous matrix. Gradients of a
//! prompt's keys and values sum over its completions inside the task, in segment order: nothing depends on scheduling.

mod plan;

pub use plan::AttentionPlan;

use std::cell::RefCell;
use std::sync::Arc;

use dfdx::prelude::*;
use rayon::prelude::*;

use self::plan::{Group, Span};
use super::gemm::Factor::{Plain, Transposed};
use super::gemm::gemm_here;
use super::tape::{Act, record};
use super::{GRAIN, rows_per_task};
use crate::ModelError;
use crate::profile::{Op, Pass, Work, timed};
use crate::simd::{LANES, add_lanes, dot, exp, kernel, max};

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

/// Scores in one tile: 512 KiB, so that a tile and its operands stay in the second-level cache.
const TILE: usize = 128 * 1024;

/// Query positions per tile when a segment sees `keys` keys.
fn tile_rows(heads: Heads, keys: usize) -> usize {
    let queries = (TILE / keys.max(1)).clamp(16, 256);
    (queries / heads.shared()).max(1)
}

kernel! {
    /// Turns scores `[rows * shared, keys]` into probabilities in place; row `i` sees `visible + i / shared` keys,
    /// the rest becomes 0. `lse[i]` receives the log-sum-exp of the scaled scores.
    fn softmax_rows(scores: &'a mut [f32], keys: usize, visible: usize, shared: usize, scale: f32,
                    lse: &'a mut [f32]) -> () {
        for (i, (row, lse)) in scores.chunks_exact_mut(keys).zip(lse).enumerate() {
            let (seen, hidden) = row.split_at_mut(visible + i / shared);
            hidden.fill(0.0);
            let most = max(seen) * scale;
            let mut lanes = [0.0; LANES];
            let whole = seen.len() - seen.len() % LANES;
            let (blocks, rest) = seen.split_at_mut(whole);
            for block in blocks.chunks_exact_mut(LANES) {
                for (lane, s) in lanes.iter_mut().zip(block) {
                    *s = exp::<S>(*s * scale - most);
                    *lane += *s;
                }
            }
            let mut tail = 0.0;
            for s in rest {
                *s = exp::<S>(*s * scale - most);
                tail += *s;
            }
            let sum = add_lanes(lanes, tail);
            let inverse = 1.0 / sum;
            for s in seen {
                *s *= inverse;
            }
            *lse = most + sum.ln();
        }
    }
}

kernel! {
    /// Scores to probabilities (`scores`) and `dp` to `ds` (`dp`), in place, from the saved log-sum-exp; `dot_go_o`
    /// is `D`.
    fn softmax_backward_rows(scores: &'a mut [f32], dp: &'a mut [f32], keys: usize, visible: usize, shared: usize,
                             scale: f32, lse: &'a [f32], go: &'a [f32], o: &'a [f32]) -> () {
        let dim = go.len() / lse.len();
        let rows = scores.chunks_exact_mut(keys).zip(dp.chunks_exact_mut(keys));
        let outs = go.chunks_exact(dim).zip(o.chunks_exact(dim));
        for (i, (((p, ds), (go, o)), lse)) in rows.zip(outs).zip(lse).enumerate() {
            let weighted = dot::<S>(go, o);
            let seen = visible + i / shared;
            p[seen..].fill(0.0);
            ds[seen..].fill(0.0);
            for (p, ds) in p[..seen].iter_mut().zip(&mut ds[..seen]) {
                *p = exp::<S>(*p * scale - *lse);
                *ds = *p * (*ds - weighted) * scale;
            }
        }
    }
}

/// Columns of key/value head `kv`, rows of `spans`, of a row-major matrix, packed. `width` is the packed row width.
fn pack(from: &[f32], stride: usize, kv: usize, width: usize, spans: &[Span], to: &mut Vec<f32>) {
    to.clear();
    for span in spans {
        for row in span.start..span.start + span.len {
            let at = row * stride + kv * width;
            to.extend_from_slice(&from[at..at + width]);
        }
    }
}

/// A task's buffers, kept per thread: their contents never outlive a task, only their memory does.
#[derive(Default)]
struct Scratch {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    scores: Vec<f32>,
    out: Vec<f32>,
    grad: Vec<f32>,
    dp: Vec<f32>,
    gk: Vec<f32>,
    gv: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Forward of one root group and key/value head: output `[group rows, width]` and log-sum-exp `[group rows, shared]`.
fn forward_task(
    [q, k, v]: [&[f32]; 3],
    heads: Heads,
    group: &Group,
    kv: usize,
    buf: &mut Scratch,
) -> (Vec<f32>, Vec<f32>) {
    let (shared, width, dim) = (heads.shared(), heads.width(), heads.dim);
    let scale = 1.0 / (dim as f32).sqrt();
    let mut out = vec![0.0; group.rows * width];
    let mut lse = vec![0.0; group.rows * shared];
    for segment in &group.segments {
        let spans = segment.keys();
        pack(k, heads.kv * dim, kv, dim, spans, &mut buf.k);
        pack(v, heads.kv * dim, kv, dim, spans, &mut buf.v);
        let own = segment.own();
        pack(q, heads.query * dim, kv, width, &[own], &mut buf.q);
        let prefix = segment.prefix_len();
        let step = tile_rows(heads, prefix + own.len);
        for first in (0..own.len).step_by(step) {
            let end = (first + step).min(own.len);
            let (queries, keys) = ((end - first) * shared, prefix + end);
            buf.scores.resize(queries * keys, 0.0);
            let tile = Plain(&buf.q[first * width..end * width]);
            gemm_here(&mut buf.scores, (queries, keys, dim), tile, Transposed(&buf.k[..keys * dim]), false);
            let (from, to) = (segment.local + first, segment.local + end);
            let lse = &mut lse[from * shared..to * shared];
            softmax_rows(&mut buf.scores, keys, prefix + first + 1, shared, scale, lse);
            let out = &mut out[from * width..to * width];
            gemm_here(out, (queries, dim, keys), Plain(&buf.scores), Plain(&buf.v[..keys * dim]), false);
        }
    }
    (out, lse)
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

/// Backward of one root group and key/value head: `gq` `[group rows, width]`, `gk` and `gv` `[group rows, dim]`.
fn backward_task(
    saved: &Saved<'_>,
    heads: Heads,
    group: &Group,
    kv: usize,
    buf: &mut Scratch,
) -> [Vec<f32>; 3] {
    let lse = &saved.lse[group.index * heads.kv + kv];
    let (shared, width, dim) = (heads.shared(), heads.width(), heads.dim);
    let scale = 1.0 / (dim as f32).sqrt();
    let mut gq = vec![0.0; group.rows * width];
    let mut gk = vec![0.0; group.rows * dim];
    let mut gv = vec![0.0; group.rows * dim];
    for segment in &group.segments {
        let spans = segment.keys();
        pack(saved.k, heads.kv * dim, kv, dim, spans, &mut buf.k);
        pack(saved.v, heads.kv * dim, kv, dim, spans, &mut buf.v);
        let own = segment.own();
        for (from, to) in [(saved.q, &mut buf.q), (saved.out, &mut buf.out), (saved.grad, &mut buf.grad)] {
            pack(from, heads.query * dim, kv, width, &[own], to);
        }
        let prefix = segment.prefix_len();
        for grad in [&mut buf.gk, &mut buf.gv] {
            grad.clear();
            grad.resize((prefix + own.len) * dim, 0.0);
        }
        let step = tile_rows(heads, prefix + own.len);
        for first in (0..own.len).step_by(step) {
            let end = (first + step).min(own.len);
            let (queries, keys) = ((end - first) * shared, prefix + end);
            let tile = first * width..end * width;
            let (q, go, o) = (&buf.q[tile.clone()], &buf.grad[tile.clone()], &buf.out[tile]);
            let (k, v) = (&buf.k[..keys * dim], &buf.v[..keys * dim]);
            buf.scores.resize(queries * keys, 0.0);
            buf.dp.resize(queries * keys, 0.0);
            gemm_here(&mut buf.scores, (queries, keys, dim), Plain(q), Transposed(k), false);
            gemm_here(&mut buf.dp, (queries, keys, dim), Plain(go), Transposed(v), false);
            let (from, to) = (segment.local + first, segment.local + end);
            let lse = &lse[from * shared..to * shared];
            let visible = prefix + first + 1;
            softmax_backward_rows(&mut buf.scores, &mut buf.dp, keys, visible, shared, scale, lse, go, o);
            let gq = &mut gq[from * width..to * width];
            gemm_here(gq, (queries, dim, keys), Plain(&buf.dp), Plain(k), false);
            let (gk, gv) = (&mut buf.gk[..keys * dim], &mut buf.gv[..keys * dim]);
            gemm_here(gk, (keys, dim, queries), Transposed(&buf.dp), Plain(q), true);
            gemm_here(gv, (keys, dim, queries), Transposed(&buf.scores), Plain(go), true);
        }
        for (sum, keys) in [(&mut gk, &buf.gk), (&mut gv, &buf.gv)] {
            let (of_prefix, of_own) = keys.split_at(prefix * dim);
            add(&mut sum[..prefix * dim], of_prefix);
            let at = segment.local * dim;
            add(&mut sum[at..at + own.len * dim], of_own);
        }
    }
    [gq, gk, gv]
}

fn add(sum: &mut [f32], more: &[f32]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum += more;
    }
}

/// Runs the task of every root group and key/value head; little work stays on the calling thread.
fn for_all<R: Send>(
    plan: &AttentionPlan,
    heads: Heads,
    task: impl Fn(&Group, usize, &mut Scratch) -> R + Sync,
) -> Vec<R> {
    // A task starts no parallel loop of its own, so no other task can borrow this thread's buffers meanwhile.
    let run = |t: usize| SCRATCH.with_borrow_mut(|buf| task(&plan.groups[t / heads.kv], t % heads.kv, buf));
    let tasks = plan.groups.len() * heads.kv;
    let work = plan.rows() * heads.query * heads.dim;
    if work <= GRAIN {
        return (0..tasks).map(run).collect();
    }
    let at_least = (GRAIN / 4 * tasks).div_ceil(work).max(1);
    (0..tasks).into_par_iter().with_min_len(at_least).map(run).collect()
}

/// Writes per-task `[group rows, width]` blocks into a packed `[rows, kv * width]` matrix.
fn unpack<'t>(
    plan: &AttentionPlan,
    kv: usize,
    width: usize,
    task: impl Fn(usize) -> &'t [f32] + Sync,
    to: &mut [f32],
) {
    let rows = rows_per_task(kv * width);
    let copy = |(chunk, to): (usize, &mut [f32])| {
        for (i, to) in to.chunks_exact_mut(kv * width).enumerate() {
            let (group, local) = plan.place(chunk * rows + i);
            for (head, to) in to.chunks_exact_mut(width).enumerate() {
                to.copy_from_slice(&task(group * kv + head)[local * width..(local + 1) * width]);
            }
        }
    };
    if to.len() <= GRAIN {
        to.chunks_mut(rows * kv * width).enumerate().for_each(copy);
    } else {
        to.par_chunks_mut(rows * kv * width).enumerate().for_each(copy);
    }
}

/// Attention of a packed batch.
///
/// `q` and `out` `[rows, query heads * dim]`, `k` and `v` `[rows, kv heads * dim]`, rotated. Returns the log-sum-exp
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
    let (n, queries, keys) = (plan.rows(), heads.query * heads.dim, heads.kv * heads.dim);
    assert!(q.len() == n * queries && out.len() == n * queries, "q and out are [rows, query heads * dim]");
    assert!(k.len() == n * keys && v.len() == n * keys, "k and v are [rows, kv heads * dim]");
    let done = for_all(plan, heads, |group, kv, buf| forward_task([q, k, v], heads, group, kv, buf));
    unpack(plan, heads.kv, heads.width(), |t| &done[t].0, out);
    done.into_iter().map(|(_, lse)| lse).collect()
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
    let done = for_all(plan, heads, |group, kv, buf| backward_task(&saved, heads, group, kv, buf));
    unpack(plan, heads.kv, heads.width(), |t| &done[t][0], gq);
    unpack(plan, heads.kv, heads.dim, |t| &done[t][1], gk);
    unpack(plan, heads.kv, heads.dim, |t| &done[t][2], gv);
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
