//! What a step costs beside the model, with a thousand tasks and up to a million pairs: drawing, packing, and the mixer.
//!
//! - `draw/<rule>/cpu`: a batch of 48 pairs drawn, over the number of pairs; naive is an order held in memory;
//! - `draw_and_pack/cpu/u32`: the same and its tokens packed from a memory-mapped store;
//! - `step_without_model/<mixer>/f64`: draw by the mixer's plan, its update and the weights of the pairs.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

mod common;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use ama_data::{
    BatchSampler, DataError, Draw, Order, Packed, PairTokenizer, Row, RowContent, TokenStore, TokeniseOptions,
};
use ama_mix::{DrawRule, MixerSpec, TaskExcess};
use common::brief;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const TASKS: usize = 1000;
const BATCH: usize = 48;
const PAIRS: [usize; 3] = [10_000, 100_000, 1_000_000];
/// Tokens of a prompt and of a completion.
const TOKENS: usize = 12;

fn sampler(pairs: usize) -> BatchSampler {
    BatchSampler::new(&[pairs / TASKS; TASKS], 1, Order::Shuffled).expect("no task is empty")
}

fn draw(c: &mut Criterion) {
    let uniform = [1.0 / TASKS as f64; TASKS];
    for rule in ["pooled", "stratified", "sampled"] {
        let mut group = c.benchmark_group(format!("draw/{rule}/cpu"));
        brief(&mut group, 500);
        group.throughput(Throughput::Elements(BATCH as u64));
        for pairs in PAIRS {
            let mut sampler = sampler(pairs);
            group.bench_function(BenchmarkId::new("pairs", pairs), |b| {
                b.iter(|| match rule {
                    "pooled" => sampler.pooled(BATCH),
                    "stratified" => sampler.stratified(BATCH),
                    _ => sampler.sampled(black_box(&uniform), BATCH).expect("they sum to 1"),
                });
            });
        }
        group.finish();
    }
    // What an order in memory costs instead: one read for each pair.
    let mut group = c.benchmark_group("draw/pooled/cpu");
    brief(&mut group, 500);
    group.throughput(Throughput::Elements(BATCH as u64));
    let order: Vec<u32> = (0..1_000_000_u64).map(|i| (i * 7_368_787 % 1_000_000) as u32).collect();
    let mut at = 0;
    group.bench_function(BenchmarkId::new("naive", order.len()), |b| {
        b.iter(|| {
            at = (at + BATCH) % (order.len() - BATCH);
            let draw = |&index: &u32| Draw { task: index as usize / TASKS, index: index as usize % TASKS };
            order[at..at + BATCH].iter().map(draw).collect::<Vec<_>>()
        });
    });
    group.finish();
}

fn store(pairs: usize, path: &Path) -> TokenStore {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/suite/base");
    let tokenizer = PairTokenizer::from_folder(&suite).expect("the suite has a tokenizer");
    let source: Arc<Path> = Arc::from(Path::new("memory"));
    let ids = |pair: usize, salt: usize| {
        (0..TOKENS).map(|at| (((pair >> (at % 3 * 8)) & 255) + salt) as u32).collect::<Vec<_>>()
    };
    let rows = (0..pairs).map(|pair| -> Result<Row, DataError> {
        let content = RowContent::Ids { prompt: ids(pair, 0), chosen: ids(pair, 1), rejected: ids(pair, 2) };
        Ok(Row { source: source.clone(), row: pair as u64 + 1, content, check: None, task: None })
    });
    TokenStore::build(rows, &tokenizer, &TokeniseOptions::default(), path, |_| ())
        .expect("every row is usable")
        .0
}

fn draw_and_pack(c: &mut Criterion) {
    let mut group = c.benchmark_group("draw_and_pack/cpu/u32");
    brief(&mut group, 1000);
    group.throughput(Throughput::Elements(BATCH as u64));
    for pairs in PAIRS {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = store(pairs, &folder.path().join("pairs.tokens"));
        let (mut sampler, mut packed) = (sampler(pairs), Packed::default());
        group.bench_function(BenchmarkId::new("pairs", pairs), |b| {
            b.iter(|| {
                packed.clear();
                for draw in sampler.pooled(BATCH) {
                    packed.push(store.example(draw.task * (pairs / TASKS) + draw.index));
                }
                packed.tokens()
            });
        });
    }
    group.finish();
}

fn step_without_model(c: &mut Criterion) {
    for name in ["pooled", "ama-r", "ama-s"] {
        let mut group = c.benchmark_group(format!("step_without_model/{name}/f64"));
        brief(&mut group, 500);
        for k in [10, 100, TASKS] {
            let sizes = vec![1_000_000 / k; k];
            let spec: MixerSpec = name.parse().expect("a name from the list above");
            let mut mixer = spec.build(&sizes, 10_000).expect("sound settings");
            let mut sampler = BatchSampler::new(&sizes, 1, Order::Shuffled).expect("no task is empty");
            // A stratified step needs a pair of every task.
            let pairs = if mixer.plan().draw == DrawRule::Stratified { k.max(BATCH) } else { BATCH };
            group.throughput(Throughput::Elements(k as u64));
            group.bench_function(BenchmarkId::new("tasks", k), |b| {
                b.iter(|| {
                    let plan = mixer.plan();
                    let draws = match plan.draw {
                        DrawRule::Stratified => sampler.stratified(pairs),
                        DrawRule::Sampled => sampler.sampled(plan.sampling, pairs).expect("they sum to 1"),
                        DrawRule::Union => sampler.pooled(pairs),
                    };
                    let tasks: Vec<usize> = draws.iter().map(|draw| draw.task).collect();
                    let excess: Vec<f64> = draws.iter().map(|draw| (draw.index % 7) as f64 * 0.1).collect();
                    let seen = TaskExcess::collect(k, &tasks, &excess).expect("tasks below k");
                    mixer.update(&seen).expect("finite excess");
                    mixer.plan().pair_weights(&tasks).expect("tasks below k")
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, draw, draw_and_pack, step_without_model);
criterion_main!(benches);
