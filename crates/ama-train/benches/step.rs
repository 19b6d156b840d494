//! A whole training step, and what it costs without the model.
//!
//! - `dpo_step/cpu/f32`: draw, pack, forward, loss, mixer, backward, clip and AdamW, in tokens as TRL counts them, for the
//!   suite's model and the `10m` one (random weights, made-up pairs);
//! - `objective/<mixer>/f64`: the same step without packing, model and optimiser, over the number of tasks: draw, losses
//!   against the cache, the mixer, gradients, the record, and the state that is kept for a checkpoint.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ama_data::{Order, PairTokenizer, Row, RowContent, TokenStore, TokeniseOptions};
use ama_loss::{PreferenceKind, PreferenceLoss};
use ama_mix::{ExcessMode, GradientClip, MixerSpec};
use ama_model::{Init, Llama, LlamaConfig, SequenceLogp};
use ama_specialist_cache::PairScore;
use ama_train::{
    AdamWOptions, Budget, Checkpoints, Control, Objective, Preference, PreferenceOptions, Schedule, Silent,
    Stage, StepRecord, TrainOptions, TrainTask, train,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// A task of pairs of so many tokens, with made-up scores.
fn task(folder: &Path, name: &str, pairs: usize, prompt: usize, completion: usize) -> TrainTask {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/suite/base");
    let tokenizer = PairTokenizer::from_folder(&suite).expect("the suite has a tokenizer");
    let source: Arc<Path> = Arc::from(Path::new("memory"));
    let ids =
        |pair: usize, salt: usize, n: usize| (0..n).map(|i| ((pair * 31 + i * salt) % 470) as u32).collect();
    let rows = (0..pairs).map(|pair| {
        let content = RowContent::Ids {
            prompt: ids(pair, 7, prompt),
            chosen: ids(pair, 11, completion),
            rejected: ids(pair, 13, completion),
        };
        Ok(Row { source: source.clone(), row: pair as u64 + 1, content, check: None, task: None })
    });
    let path = folder.join(format!("{name}.tokens"));
    let store = TokenStore::build(rows, &tokenizer, &TokeniseOptions::default(), &path, |_| ());
    let (pairs, report) = store.expect("every row is usable");
    let tokens = completion as u32;
    let score = PairScore {
        chosen_logp: -50.0,
        rejected_logp: -55.0,
        chosen_tokens: tokens,
        rejected_tokens: tokens,
    };
    let rows = report.kept as usize;
    let specialist = Some(vec![0.3; rows]);
    TrainTask { name: name.into(), pairs, reference: vec![score; rows], specialist_loss_nats: specialist }
}

fn objective(tasks: Vec<TrainTask>, mixer: &str, batch_pairs: usize) -> Preference {
    let sizes: Vec<usize> = tasks.iter().map(|task| task.pairs.len()).collect();
    let mixer: MixerSpec = mixer.parse().expect("a mixer's name");
    let loss = PreferenceLoss::new(PreferenceKind::Sigmoid { label_smoothing: 0.0 }, 0.1, 0.0);
    let options = PreferenceOptions {
        loss: loss.expect("constants in range"),
        batch_pairs,
        excess: ExcessMode::Clipped,
        gradient_clip: GradientClip::Pair,
        order: Order::Shuffled,
        seed: 1,
        stage: Stage::Generalist,
    };
    let mixer = mixer.build(&sizes, 10_000).expect("sound settings");
    Preference::new(tasks, mixer, options).expect("every pair has its scores")
}

fn dpo_step(c: &mut Criterion) {
    let suite = r#"{"model_type": "llama", "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3,
        "num_attention_heads": 4, "vocab_size": 512, "tie_word_embeddings": true}"#;
    let small = r#"{"model_type": "llama", "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 4096, "tie_word_embeddings": true}"#;
    let mut group = c.benchmark_group("dpo_step/cpu/f32");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for (name, config, pairs, length) in [("suite_20x40", suite, 20, 40), ("10m_8x256", small, 8, 256)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tasks =
            ["one", "other"].map(|task_name| task(folder.path(), task_name, 64, length / 2, length / 2));
        let mut objective = objective(tasks.into(), "ama-s", pairs);
        let config = LlamaConfig::from_json_str(config, name.as_ref()).expect("a sound configuration");
        let mut model = Llama::random(&config, 0, Init::Scaled).expect("a sound configuration");
        let stop = AtomicBool::new(false);
        group.throughput(Throughput::Elements((2 * pairs * length) as u64));
        group.bench_function(BenchmarkId::new("ama-s", name), |b| {
            b.iter_custom(|steps| {
                let options = TrainOptions {
                    budget: Budget::Steps(steps),
                    schedule: Schedule::constant(1e-5),
                    optimiser: AdamWOptions::default(),
                    clip_norm: Some(1.0),
                    micro_batch_tokens: 8192,
                    checkpoint_activations: false,
                };
                let mut silent = Silent;
                let mut control = Control::new(&stop, &mut silent);
                let run = train(&mut model, &mut objective, &options, &Checkpoints::none(), &mut control);
                // The steps alone, without the buffers that a run allocates once.
                Duration::from_secs_f64(run.expect("finite losses").step_s.iter().sum())
            });
        });
    }
    group.finish();
}

fn without_model(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tasks: Vec<TrainTask> =
        (0..1000).map(|i| task(folder.path(), &format!("task-{i}"), 4, 8, 8)).collect();
    for mixer in ["pooled", "ama-r", "ama-s"] {
        let mut group = c.benchmark_group(format!("objective/{mixer}/f64"));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(250))
            .measurement_time(Duration::from_millis(500));
        for k in [3, 100, 1000] {
            // A stratified step needs a pair of every task.
            let pairs = if mixer == "ama-r" { k.max(48) } else { 48 };
            let mut objective = objective(tasks[..k].to_vec(), mixer, pairs);
            let logp = |sum_nats| SequenceLogp { sum_nats, tokens: 8 };
            let logps: Vec<SequenceLogp> =
                (0..pairs).flat_map(|i| [logp(-49.0 - i as f64), logp(-56.0)]).collect();
            group.throughput(Throughput::Elements(k as u64));
            group.bench_function(BenchmarkId::new("tasks", k), |b| {
                b.iter(|| {
                    let state = objective.state();
                    let drawn = objective.draw().expect("sound weights");
                    objective.losses(0..drawn, &logps).expect("finite losses");
                    objective.settle().expect("finite excess");
                    let gradient = objective.gradient(0..drawn);
                    let mut record = StepRecord::default();
                    objective.record(&mut record);
                    (state, gradient, record)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, dpo_step, without_model);
criterion_main!(benches);
