//! The element-wise kernels: log-probabilities from given logits, `exp`, log-sum-exp (each instruction set), and the
//! preference losses.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

use std::hint::black_box;
use std::time::Duration;

use ama_loss::simd::{Isa, exp_in_place, lse_row};
use ama_loss::{
    LogitsShape, PairLogps, PreferenceKind, PreferenceLoss, logits_logp_backward, logits_logp_forward,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;

/// The vocabulary of SmolLM2.
const VOCAB: usize = 49152;

fn wave(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919) % 1000) as f32 * 0.01 - 5.0).collect()
}

fn logits(c: &mut Criterion) {
    let rows = 512;
    let (logits, shape) = (wave(rows * VOCAB), LogitsShape::contiguous(rows, VOCAB));
    let targets: Vec<u32> = (0..rows).map(|i| (i * 7919 % VOCAB) as u32).collect();
    let upstream = vec![0.5; rows];
    let mut gradient = vec![0.0; logits.len()];
    let mut group = c.benchmark_group("logits_logp/cpu/f32");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Bytes(size_of_val(logits.as_slice()) as u64));
    group.bench_function(BenchmarkId::new("forward", rows), |b| {
        b.iter(|| logits_logp_forward(black_box(&logits), &targets, shape));
    });
    group.bench_function(BenchmarkId::new("forward_naive", rows), |b| {
        b.iter(|| {
            let rows = black_box(&logits).par_chunks(VOCAB).zip(&targets);
            rows.map(|(row, target)| {
                let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                row[*target as usize] - most - row.iter().map(|x| (x - most).exp()).sum::<f32>().ln()
            })
            .collect::<Vec<f32>>()
        });
    });
    group.bench_function(BenchmarkId::new("forward_backward", rows), |b| {
        b.iter(|| {
            let forward = logits_logp_forward(black_box(&logits), &targets, shape)?;
            logits_logp_backward(&logits, &targets, &forward.lse, &upstream, shape, &mut gradient)
        });
    });
    // What reading the logits costs by itself: the limit of `forward`.
    group.bench_function(BenchmarkId::new("read_only", rows), |b| {
        b.iter(|| {
            let rows = black_box(&logits).par_chunks(VOCAB);
            rows.map(|row| ama_loss::simd::max(Isa::detect(), row)).reduce(|| f32::NEG_INFINITY, f32::max)
        });
    });
    group.finish();
}

fn rows(c: &mut Criterion) {
    let x = wave(VOCAB);
    for isa in Isa::available() {
        let mut group = c.benchmark_group(format!("row/cpu-{}/f32", isa.name()));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_millis(500));
        group.throughput(Throughput::Elements(VOCAB as u64));
        group.bench_function("log_sum_exp", |b| b.iter(|| lse_row(isa, black_box(&x))));
        group.bench_function("copy_exp", |b| {
            let mut y = x.clone();
            b.iter(|| {
                y.copy_from_slice(black_box(&x));
                exp_in_place(isa, &mut y);
            });
        });
        group.finish();
    }
}

fn preference(c: &mut Criterion) {
    let pairs: Vec<PairLogps> = (0..4096)
        .map(|i| PairLogps {
            chosen: -20.0 - f64::from(i % 17),
            rejected: -30.0 + f64::from(i % 13),
            ref_chosen: -21.0,
            ref_rejected: -29.0,
            chosen_tokens: 20,
            rejected_tokens: 30,
        })
        .collect();
    let mut group = c.benchmark_group("preference/cpu/f64");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500));
    group.throughput(Throughput::Elements(pairs.len() as u64));
    for (name, kind) in [
        ("sigmoid", PreferenceKind::Sigmoid { label_smoothing: 0.1 }),
        ("ipo", PreferenceKind::Ipo),
        ("hinge", PreferenceKind::Hinge),
        ("robust", PreferenceKind::Robust { label_smoothing: 0.1 }),
    ] {
        let loss = PreferenceLoss::new(kind, 0.1, 1.0).expect("constants in range");
        group.bench_function(name, |b| {
            b.iter(|| black_box(&pairs).iter().map(|pair| loss.evaluate(pair).loss_nats).sum::<f64>());
        });
    }
    group.finish();
}

criterion_group!(benches, logits, rows, preference);
criterion_main!(benches);
