//! The specialist cache's read path: score shards, loss tables, and losses derived from scores, over the number of pairs.
//!
//! `cache_read/cpu/f64`. Naive is the bytes read and nothing checked, parsed or looked up: the limit, not a rival.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

mod common;

use std::fs;
use std::hint::black_box;

use ama_loss::{PairLogps, PreferenceKind, PreferenceLoss};
use ama_specialist_cache::{
    LossMeta, PairId, PairScore, ScoreKey, ScoreStore, derive_losses, read_losses, write_losses,
};
use common::brief;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// The id of a pair: as scattered as a hash.
fn id(pair: usize) -> PairId {
    (pair as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes()
}

fn scores(pairs: usize, shift: f64) -> Vec<(PairId, PairScore)> {
    let score = |pair: usize| PairScore {
        chosen_logp: -40.0 - (pair % 97) as f64 + shift,
        rejected_logp: -42.0 - (pair % 89) as f64,
        chosen_tokens: 40,
        rejected_tokens: 40,
    };
    (0..pairs).map(|pair| (id(pair), score(pair))).collect()
}

fn cache(c: &mut Criterion) {
    let loss = PreferenceLoss::new(PreferenceKind::Sigmoid { label_smoothing: 0.0 }, 0.1, 0.0);
    let loss = loss.expect("constants in range");
    let dpo = |policy: &PairScore, reference: &PairScore| {
        let logps = PairLogps {
            chosen: policy.chosen_logp,
            rejected: policy.rejected_logp,
            ref_chosen: reference.chosen_logp,
            ref_rejected: reference.rejected_logp,
            chosen_tokens: policy.chosen_tokens,
            rejected_tokens: policy.rejected_tokens,
        };
        loss.evaluate(&logps).loss_nats
    };
    let mut group = c.benchmark_group("cache_read/cpu/f64");
    brief(&mut group, 1000);
    for pairs in [1000, 10_000, 100_000] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = ScoreStore::open(folder.path().join("scores")).expect("an empty folder");
        let policy = ScoreKey { model: [1; 32], tokenizer: [2; 32], max_length: Some(512) };
        let reference = ScoreKey { model: [3; 32], ..policy };
        for (key, shift) in [(&policy, 1.0), (&reference, 0.0)] {
            store.append(key, &scores(pairs, shift)).expect("nothing is there yet");
        }
        let load = |key| store.load(key).expect("what was just written");
        let ids: Vec<PairId> = (0..pairs).map(id).collect();
        let table = load(&policy);
        let rows = derive_losses(&ids, &table, &load(&reference), dpo).expect("every pair has its scores");
        let path = folder.path().join("losses.parquet");
        let meta = LossMeta { policy, reference, task: "task".into(), loss: "sigmoid beta=0.1".into() };
        write_losses(&path, &meta, &rows).expect("a new file");
        let shard = fs::read_dir(store.dir().join(policy.folder_name())).expect("it was appended to");
        let shard = shard.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let shard = shard.into_iter().find(|path| path.extension().is_some_and(|end| end == "parquet"));
        let shard = shard.expect("one shard");

        group.throughput(Throughput::Elements(pairs as u64));
        group.bench_function(BenchmarkId::new("scores", pairs), |b| b.iter(|| load(&policy)));
        group.bench_function(BenchmarkId::new("scores_naive", pairs), |b| {
            b.iter(|| fs::read(&shard).map(|f| f.len()))
        });
        group.bench_function(BenchmarkId::new("missing", pairs), |b| {
            b.iter(|| table.missing(black_box(&ids)))
        });
        group.bench_function(BenchmarkId::new("losses", pairs), |b| {
            b.iter(|| read_losses(&path).map(|(_, rows)| rows.len()))
        });
        group.bench_function(BenchmarkId::new("losses_naive", pairs), |b| {
            b.iter(|| fs::read(&path).map(|f| f.len()))
        });
        let of_reference = load(&reference);
        group.bench_function(BenchmarkId::new("derive", pairs), |b| {
            b.iter(|| derive_losses(&ids, &table, &of_reference, dpo).map(|rows| rows.len()));
        });
    }
    group.finish();
}

criterion_group!(benches, cache);
criterion_main!(benches);
