//! A step of a mixer (plan, pair weights, update) over the number of tasks: `mixer_step/<mixer>/f64`.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use ama_mix::{MixerSpec, TaskExcess};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

fn mixer_step(c: &mut Criterion) {
    for name in ["ama-r", "ama-s"] {
        let mut group = c.benchmark_group(format!("mixer_step/{name}/f64"));
        for k in [3usize, 1000] {
            // Two pairs of every task.
            let pairs: Vec<usize> = (0..2 * k).map(|pair| pair % k).collect();
            let seen: Vec<TaskExcess> = (0..k)
                .map(|task| TaskExcess { drawn: 2, mean_excess_nats: 0.1 + (task % 7) as f64 * 0.05 })
                .collect();
            let spec: MixerSpec = name.parse().expect("a name from the list above");
            let mut mixer = spec.build(&vec![100; k], 1000).expect("sound settings");
            group.throughput(Throughput::Elements(k as u64));
            group.bench_function(BenchmarkId::new("tasks", k), |b| {
                b.iter(|| {
                    mixer.update(black_box(&seen)).expect("finite excess");
                    mixer.plan().pair_weights(black_box(&pairs)).expect("tasks below k")
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, mixer_step);
criterion_main!(benches);
