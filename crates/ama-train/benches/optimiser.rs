//! AdamW and gradient clipping over all parameters of a model, against the naive way: one operation of the formula after
//! the other, each over a whole tensor, on one thread. `<op>/cpu/f32`.
//!
//! Throughput is in bytes that have to move: for AdamW four values read and three written for each parameter (weight,
//! gradient, two moments), for the norm one read. It compares with the machine's memory bandwidth.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

use std::hint::black_box;
use std::time::Duration;

use ama_model::{Init, Llama, LlamaConfig, ParamGrads};
use ama_train::optim::clip_factor;
use ama_train::{AdamW, AdamWOptions};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Weights, gradients and two moments as the naive way holds them.
struct Naive {
    weights: Vec<Vec<f32>>,
    moments: [Vec<Vec<f32>>; 2],
    steps: i32,
}

impl Naive {
    fn step(&mut self, gradients: &ParamGrads, lr: f32) {
        self.steps += 1;
        let (b1, b2, eps) = (0.9_f32, 0.999_f32, 1e-8);
        let [first, second] = &mut self.moments;
        let tensors = self.weights.iter_mut().zip(gradients.iter()).zip(first.iter_mut().zip(second));
        for ((w, g), (m, v)) in tensors {
            m.iter_mut().for_each(|m| *m *= b1);
            m.iter_mut().zip(g).for_each(|(m, g)| *m += (1.0 - b1) * g);
            v.iter_mut().for_each(|v| *v *= b2);
            v.iter_mut().zip(g).for_each(|(v, g)| *v += (1.0 - b2) * g * g);
            let mut root: Vec<f32> = v.iter().map(|v| v.sqrt()).collect();
            root.iter_mut().for_each(|r| *r = *r / (1.0 - b2.powi(self.steps)).sqrt() + eps);
            let size = lr / (1.0 - b1.powi(self.steps));
            w.iter_mut().zip(m.iter()).zip(&root).for_each(|((w, m), r)| *w -= size * m / r);
        }
    }
}

fn optimiser(c: &mut Criterion) {
    // The suite's model, the `10m` one, and one whose weights and moments are far larger than any cache.
    for (name, hidden, inner, layers, vocab) in
        [("suite", 96, 256, 3, 512), ("10m", 256, 688, 6, 4096), ("25m", 576, 1536, 6, 8192)]
    {
        let config = LlamaConfig::from_json_str(
            &format!(
                r#"{{"model_type": "llama", "hidden_size": {hidden}, "intermediate_size": {inner},
                "num_hidden_layers": {layers}, "num_attention_heads": 8, "vocab_size": {vocab},
                "tie_word_embeddings": true}}"#
            ),
            name.as_ref(),
        )
        .expect("a sound configuration");
        let mut model = Llama::random(&config, 0, Init::Scaled).expect("a sound configuration");
        let mut gradients = ParamGrads::zeros(model.params());
        for (i, gradient) in gradients.iter_mut().flatten().enumerate() {
            *gradient = (i % 17) as f32 * 1e-3 - 8e-3;
        }
        let mut adamw = AdamW::new(AdamWOptions::default(), model.params());
        let zeros = || gradients.iter().map(|g| vec![0.0; g.len()]).collect::<Vec<_>>();
        let mut naive = Naive { weights: zeros(), moments: [zeros(), zeros()], steps: 0 };
        let count = model.params().total() as u64;

        let mut group = c.benchmark_group("adamw/cpu/f32");
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(250))
            .measurement_time(Duration::from_millis(500));
        group.throughput(Throughput::Bytes(28 * count));
        group.bench_function(BenchmarkId::new("fused", name), |b| {
            b.iter(|| adamw.step(model.params_mut(), black_box(&gradients), 1e-6, 0.5));
        });
        group.bench_function(BenchmarkId::new("naive", name), |b| {
            b.iter(|| naive.step(black_box(&gradients), 1e-6));
        });
        group.finish();

        let mut group = c.benchmark_group("clip/cpu/f32");
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(250))
            .measurement_time(Duration::from_millis(500));
        group.throughput(Throughput::Bytes(4 * count));
        group.bench_function(BenchmarkId::new("fused", name), |b| {
            b.iter(|| clip_factor(black_box(&gradients).global_norm(), Some(1.0)));
        });
        group.bench_function(BenchmarkId::new("naive", name), |b| {
            b.iter(|| {
                let squares = black_box(&gradients).iter().flatten().map(|g| f64::from(*g) * f64::from(*g));
                clip_factor(squares.sum::<f64>().sqrt(), Some(1.0))
            });
        });
        group.finish();
    }
}

criterion_group!(benches, optimiser);
criterion_main!(benches);
