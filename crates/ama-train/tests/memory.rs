//! What stage 2 holds for each pair: its reference scores and its specialist's loss, and nothing else.
#![allow(clippy::print_stdout, reason = "a figure, or why there is none, is what this test is for")]

mod support;

use std::path::Path;
use std::sync::Arc;

use ama_data::{Order, Row, RowContent, TokenStore, TokeniseOptions};
use ama_loss::{PreferenceKind, PreferenceLoss};
use ama_mix::{ExcessMode, GradientClip, MixerSpec};
use ama_specialist_cache::PairScore;
use ama_train::{Objective, Preference, PreferenceOptions, Stage, TrainTask};

/// A reference score is 24 bytes, a loss 8; the rest is room for what the allocator does.
const BYTES_PER_PAIR: f64 = 40.0;
const TASKS: usize = 20;

fn anonymous_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

/// A store of made-up pairs; the rows stream.
fn store(folder: &Path, name: &str, pairs: usize) -> TokenStore {
    let source: Arc<Path> = Arc::from(Path::new("memory"));
    let rows = (0..pairs).map(|pair| {
        let ids = |salt: usize| {
            (0..8).map(|at| ((pair >> (at * 4) & 15) + salt) as u32 % support::VOCAB).collect::<Vec<_>>()
        };
        let content = RowContent::Ids { prompt: ids(0), chosen: ids(1), rejected: ids(2) };
        Ok(Row { source: source.clone(), row: pair as u64 + 1, content, check: None, task: None })
    });
    let path = folder.join(format!("{name}.tokens"));
    TokenStore::build(rows, &support::tokenizer(folder), &TokeniseOptions::default(), &path, |_| {})
        .unwrap()
        .0
}

/// An objective over so many pairs that has drawn a few batches.
fn objective(folder: &Path, pairs: usize) -> Preference {
    let tasks = (0..TASKS).map(|task| {
        let name = format!("task-{task}-of-{pairs}");
        let store = store(folder, &name, pairs / TASKS);
        let score =
            PairScore { chosen_logp: -9.0, rejected_logp: -9.0, chosen_tokens: 3, rejected_tokens: 3 };
        let (reference, specialist) = (vec![score; store.len()], vec![0.5; store.len()]);
        TrainTask { name, pairs: store, reference, specialist_loss_nats: Some(specialist) }
    });
    let tasks: Vec<TrainTask> = tasks.collect();
    let mixer: MixerSpec = "ama-s".parse().unwrap();
    let sizes: Vec<usize> = tasks.iter().map(|task| task.pairs.len()).collect();
    let options = PreferenceOptions {
        loss: PreferenceLoss::new(PreferenceKind::Sigmoid { label_smoothing: 0.0 }, 0.1, 0.0).unwrap(),
        batch_pairs: 48,
        excess: ExcessMode::Clipped,
        gradient_clip: GradientClip::Pair,
        order: Order::Shuffled,
        seed: 1,
        stage: Stage::Generalist,
    };
    let mut objective = Preference::new(tasks, mixer.build(&sizes, 100).unwrap(), options).unwrap();
    for _ in 0..100 {
        assert_eq!(objective.draw().unwrap(), 48);
    }
    objective
}

#[test]
fn a_pair_costs_its_scores_and_no_more() {
    if !cfg!(target_os = "linux") {
        println!("skipped: /proc/self/status is Linux's");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let pairs = 400_000;
    drop(objective(folder.path(), 10_000));
    let before = anonymous_bytes();
    let held = objective(folder.path(), pairs);
    let each = (anonymous_bytes() - before) / pairs as f64;
    drop(held);
    println!("{each:.1} bytes a pair");
    assert!((24.0..BYTES_PER_PAIR).contains(&each), "{each} bytes a pair");
}
