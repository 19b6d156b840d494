//! Attention of a packed batch of pairs, forward and backward, with each prompt once and without, against the naive way.
//!
//! `attention_<pass>/cpu/f32`: 8 query and 4 key/value heads of 32 (the `10m` shape), 8 pairs, prompt and completion of
//! equal length, over the length of a sequence. Throughput is in tokens as TRL counts them (prompt and completion of
//! both sequences), so `shared`, which computes a prompt once, compares with `repeated`, which does it twice. Naive is the
//! formula as it stands, one sequence and head a task, with the whole row of scores.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

mod common;

use ama_data::Packed;
use ama_model::PackedView;
use ama_model::ops::attention::{AttentionPlan, Heads, attention_backward, attention_forward};
use common::{batch, brief, uniform};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;

const HEADS: Heads = Heads { query: 8, kv: 4, dim: 32 };
const PAIRS: usize = 8;
/// Longer sequences take the naive way minutes.
const NAIVE_UP_TO: usize = 256;

/// The operands of one attention layer.
struct Layer {
    plan: AttentionPlan,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Layer {
    fn new(segment_offsets: &[u32], segment_prefix: &[Option<u32>]) -> Self {
        let rows = segment_offsets.last().map_or(0, |end| *end as usize);
        let ids = vec![0; rows];
        // Only segments matter here.
        let view = PackedView {
            ids: &ids,
            segment_offsets,
            segment_prefix,
            rows: &[],
            targets: &[],
            sequence_offsets: &[0],
        };
        let plan = AttentionPlan::new(&view).expect("a sound batch");
        let operand = |seed, heads| uniform(seed, rows * heads * HEADS.dim, 1.0);
        Self { plan, q: operand(1, HEADS.query), k: operand(2, HEADS.kv), v: operand(3, HEADS.kv) }
    }

    /// Pairs whose completions share their prompt.
    fn shared(length: usize) -> Self {
        let packed: Packed = batch(PAIRS, length / 2, length / 2 + 1, 4096);
        Self::new(&packed.segment_offsets, &packed.segment_prefix)
    }

    /// The same pairs, every sequence with a prompt of its own.
    fn repeated(length: usize) -> Self {
        let offsets: Vec<u32> = (0..=2 * PAIRS).map(|sequence| (sequence * length) as u32).collect();
        Self::new(&offsets, &[None; 2 * PAIRS])
    }

    fn forward(&self, out: &mut [f32]) -> Vec<Vec<f32>> {
        attention_forward(&self.q, &self.k, &self.v, HEADS, &self.plan, out)
    }
}

/// Row `row` of head `head` of a matrix with so many heads.
fn at(x: &[f32], heads: usize, row: usize, head: usize) -> &[f32] {
    &x[(row * heads + head) * HEADS.dim..][..HEADS.dim]
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Probabilities of query `i` of a sequence that begins at row `start`.
fn softmax(layer: &Layer, start: usize, i: usize, head: usize) -> Vec<f32> {
    let (kv, scale) = (head / (HEADS.query / HEADS.kv), 1.0 / (HEADS.dim as f32).sqrt());
    let q = at(&layer.q, HEADS.query, start + i, head);
    let mut p: Vec<f32> = (0..=i).map(|j| scale * dot(q, at(&layer.k, HEADS.kv, start + j, kv))).collect();
    let most = p.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    p.iter_mut().for_each(|p| *p = (*p - most).exp());
    let sum: f32 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= sum);
    p
}

/// Output, or with `grad` the three gradients, of one sequence and head.
fn naive_head(layer: &Layer, length: usize, task: usize, grad: Option<&[f32]>) -> Vec<Vec<f32>> {
    let (start, head) = (task / HEADS.query * length, task % HEADS.query);
    let (kv, scale, dim) = (head / (HEADS.query / HEADS.kv), 1.0 / (HEADS.dim as f32).sqrt(), HEADS.dim);
    let mut result = vec![vec![0.0; length * dim]; if grad.is_some() { 3 } else { 1 }];
    let add = |sum: &mut [f32], row: usize, factor: f32, x: &[f32]| {
        sum[row * dim..][..dim].iter_mut().zip(x).for_each(|(sum, x)| *sum += factor * x);
    };
    for i in 0..length {
        let p = softmax(layer, start, i, head);
        let Some(grad) = grad else {
            for (j, p) in p.iter().enumerate() {
                add(&mut result[0], i, *p, at(&layer.v, HEADS.kv, start + j, kv));
            }
            continue;
        };
        let go = at(grad, HEADS.query, start + i, head);
        let dp: Vec<f32> = (0..=i).map(|j| dot(go, at(&layer.v, HEADS.kv, start + j, kv))).collect();
        let weighted = dot(&p, &dp);
        for (j, (p, dp)) in p.iter().zip(dp).enumerate() {
            let ds = p * (dp - weighted) * scale;
            add(&mut result[0], i, ds, at(&layer.k, HEADS.kv, start + j, kv));
            add(&mut result[1], j, ds, at(&layer.q, HEADS.query, start + i, head));
            add(&mut result[2], j, *p, go);
        }
    }
    result
}

fn naive(layer: &Layer, length: usize, grad: Option<&[f32]>) -> Vec<Vec<Vec<f32>>> {
    (0..2 * PAIRS * HEADS.query).into_par_iter().map(|task| naive_head(layer, length, task, grad)).collect()
}

fn attention(c: &mut Criterion) {
    for length in [64, 256, 1024] {
        let tokens = Throughput::Elements((2 * PAIRS * length) as u64);
        let layers = [("shared", Layer::shared(length)), ("repeated", Layer::repeated(length))];
        let repeated = &layers[1].1;

        let mut group = c.benchmark_group("attention_forward/cpu/f32");
        brief(&mut group, 500);
        group.throughput(tokens.clone());
        for (name, layer) in &layers {
            let mut out = vec![0.0; layer.q.len()];
            group.bench_function(BenchmarkId::new(*name, length), |b| b.iter(|| layer.forward(&mut out)));
        }
        if length <= NAIVE_UP_TO {
            group.bench_function(BenchmarkId::new("naive", length), |b| {
                b.iter(|| naive(repeated, length, None))
            });
        }
        group.finish();

        let mut group = c.benchmark_group("attention_backward/cpu/f32");
        brief(&mut group, 500);
        group.throughput(tokens);
        for (name, layer) in &layers {
            let mut out = vec![0.0; layer.q.len()];
            let lse = layer.forward(&mut out);
            let grad = uniform(4, layer.q.len(), 1.0);
            let (mut gq, mut gk, mut gv) =
                (vec![0.0; layer.q.len()], vec![0.0; layer.k.len()], vec![0.0; layer.v.len()]);
            group.bench_function(BenchmarkId::new(*name, length), |b| {
                b.iter(|| {
                    let operands = [layer.q.as_slice(), &layer.k, &layer.v];
                    attention_backward(
                        operands,
                        &out,
                        &lse,
                        &grad,
                        HEADS,
                        &layer.plan,
                        [&mut gq, &mut gk, &mut gv],
                    );
                });
            });
        }
        let grad = uniform(4, repeated.q.len(), 1.0);
        if length <= NAIVE_UP_TO {
            group.bench_function(BenchmarkId::new("naive", length), |b| {
                b.iter(|| naive(repeated, length, Some(&grad)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, attention);
criterion_main!(benches);
