//! The log-probability head, forward and forward + backward, against the naive way with the same matrix products: all
//! logits held, log-softmax over them with the standard library's `exp`, threads over rows.
//!
//! Throughput is in multiply-adds of the products that the mathematics needs (1 forward, 3 with backward), so Gelem/s
//! times 2 is GFLOP/s; the fused way spends a product more to recompute logits.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

mod common;

use std::hint::black_box;
use std::time::Duration;

use ama_loss::gemm::{MatMut, MatRef, matmul};
use ama_loss::{HeadShape, LinearLogp, LossError, Recompute, Threads};
use common::uniform;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;

/// Logits of the fused way; less than all of the second shape.
const BUDGET: usize = 64 << 20;

/// Log-softmax in place and gather, one row a task.
fn naive_log_softmax(logits: &mut [f32], targets: &[u32], vocab: usize) -> Vec<f32> {
    let rows = logits.par_chunks_mut(vocab).zip(targets);
    rows.map(|(row, target)| {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let lse = most + row.iter().map(|x| (x - most).exp()).sum::<f32>().ln();
        for x in row.iter_mut() {
            *x -= lse;
        }
        row[*target as usize]
    })
    .collect()
}

/// The head the naive way; with `gradients`, backward too.
fn naive(
    head: &LinearLogp<'_>,
    upstream: &[f32],
    gradients: Option<(&mut [f32], &mut [f32])>,
) -> Result<Vec<f32>, LossError> {
    let HeadShape { rows, hidden, vocab } = head.shape;
    let (h, w) =
        (MatRef::row_major(head.hidden, rows, hidden)?, MatRef::row_major(head.weight, vocab, hidden)?);
    let mut logits = vec![0.0; rows * vocab];
    matmul(MatMut::row_major(&mut logits, rows, vocab)?, false, h, w.t(), Threads::current())?;
    let logp = naive_log_softmax(&mut logits, head.targets, vocab);
    if let Some((d_hidden, d_weight)) = gradients {
        logits.par_chunks_mut(vocab).zip(head.targets).zip(upstream).for_each(|((row, target), g)| {
            for x in row.iter_mut() {
                *x = -g * x.exp();
            }
            row[*target as usize] += g;
        });
        let d_x = MatRef::row_major(&logits, rows, vocab)?;
        matmul(MatMut::row_major(d_hidden, rows, hidden)?, true, d_x, w, Threads::current())?;
        matmul(MatMut::row_major(d_weight, vocab, hidden)?, true, d_x.t(), h, Threads::current())?;
    }
    Ok(logp)
}

fn logp_head(c: &mut Criterion) {
    for (rows, hidden, vocab) in [(256, 512, 8192), (512, 576, 49152)] {
        let shape = HeadShape { rows, hidden, vocab };
        let (h, w) = (uniform(1, rows * hidden, 1.0), uniform(2, vocab * hidden, 0.05));
        let targets: Vec<u32> = (0..rows).map(|i| (i * 7919 % vocab) as u32).collect();
        let upstream = uniform(3, rows, 1.0);
        let head = LinearLogp { hidden: &h, weight: &w, targets: &targets, shape, budget_bytes: BUDGET };
        let (mut d_h, mut d_w) = (vec![0.0; h.len()], vec![0.0; w.len()]);
        let size = format!("{rows}x{hidden}x{vocab}");
        let products = |n: u64| Throughput::Elements(n * (rows * hidden * vocab) as u64);

        let mut group = c.benchmark_group("logp_head_forward/cpu/f32");
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2));
        group.throughput(products(1));
        group.bench_function(BenchmarkId::new("fused", &size), |b| {
            b.iter(|| black_box(&head).forward(Recompute::Always));
        });
        group.bench_function(BenchmarkId::new("naive", &size), |b| {
            b.iter(|| naive(black_box(&head), &upstream, None));
        });
        group.finish();

        let mut group = c.benchmark_group("logp_head_forward_backward/cpu/f32");
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(4));
        group.throughput(products(3));
        for (name, recompute) in [("fused", Recompute::OverBudget), ("fused_recompute", Recompute::Always)] {
            group.bench_function(BenchmarkId::new(name, &size), |b| {
                b.iter(|| {
                    let (forward, kept) = black_box(&head).forward(recompute)?;
                    head.backward(&forward.lse, kept, &upstream, &mut d_h, Some(&mut d_w))
                });
            });
        }
        group.bench_function(BenchmarkId::new("naive", &size), |b| {
            b.iter(|| naive(black_box(&head), &upstream, Some((&mut d_h, &mut d_w))));
        });
        group.finish();
    }
}

criterion_group!(benches, logp_head);
criterion_main!(benches);
