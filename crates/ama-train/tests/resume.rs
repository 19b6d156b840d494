//! A run that is stopped and continued ends with the same bits as one that is not; damage is named.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use ama_data::Order;
use ama_loss::{PreferenceKind, PreferenceLoss};
use ama_mix::{ExcessMode, GradientClip, MixerSpec};
use ama_model::Llama;
use ama_train::{
    AdamWOptions, Budget, Checkpoints, Control, Decay, Observer, Preference, PreferenceOptions, Schedule,
    Sft, Silent, Stage, StepRecord, Summary, TrainError, TrainOptions, Warmup, train,
};

fn options() -> TrainOptions {
    TrainOptions {
        budget: Budget::Steps(12),
        schedule: Schedule { peak: 5e-3, warmup: Warmup::Steps(3), decay: Decay::Cosine, min_ratio: 0.1 },
        optimiser: AdamWOptions { weight_decay: 0.01, ..AdamWOptions::default() },
        clip_norm: Some(1.0),
        micro_batch_tokens: 4096,
        checkpoint_activations: false,
    }
}

fn preference(folder: &Path, method: &str) -> Preference {
    let base = support::model(7);
    let tasks = support::tasks(folder, &base);
    let spec: MixerSpec = method.parse().unwrap();
    let sizes: Vec<usize> = tasks.iter().map(|t| t.pairs.len()).collect();
    let mixer = spec.build(&sizes, 12).unwrap();
    let excess = if spec.needs_specialists() { ExcessMode::Clipped } else { ExcessMode::Raw };
    let loss = PreferenceLoss::new(PreferenceKind::Sigmoid { label_smoothing: 0.0 }, 0.1, 1.0).unwrap();
    let options = PreferenceOptions {
        loss,
        batch_pairs: 6,
        excess,
        gradient_clip: GradientClip::Pair,
        order: Order::Shuffled,
        seed: 3,
        stage: Stage::Generalist,
    };
    Preference::new(tasks, mixer, options).unwrap()
}

/// Sets the stop flag once `after` steps have been seen.
struct StopAfter<'a> {
    after: u64,
    stop: &'a AtomicBool,
}

impl Observer for StopAfter<'_> {
    fn step(&mut self, record: &StepRecord, _: u64, _: u64) {
        if record.step >= self.after {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

fn run(
    model: &mut Llama,
    objective: &mut Preference,
    checkpoints: &Checkpoints,
    stop_after: Option<u64>,
) -> Result<Summary, TrainError> {
    let stop = AtomicBool::new(false);
    let mut observer = StopAfter { after: stop_after.unwrap_or(u64::MAX), stop: &stop };
    train(model, objective, &options(), checkpoints, &mut Control::new(&stop, &mut observer))
}

#[test]
fn resuming_at_any_step_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    for method in ["pooled", "task-normalised", "group-dro", "ama-r", "ama-s"] {
        let mut whole = support::model(7);
        let summary =
            run(&mut whole, &mut preference(folder.path(), method), &Checkpoints::none(), None).unwrap();
        assert_ne!(support::bits(&whole), support::bits(&support::model(7)), "training moved the weights");
        for cuts in [vec![1], vec![5], vec![11], vec![2, 3, 9]] {
            let saved = tempfile::tempdir().unwrap();
            let checkpoints = Checkpoints {
                folder: Some(saved.path().to_path_buf()),
                every_steps: Some(4),
                identity: method.into(),
                resume: true,
            };
            for &cut in &cuts {
                // A fresh process: nothing is kept but what is on disk.
                let stopped = run(
                    &mut support::model(7),
                    &mut preference(folder.path(), method),
                    &checkpoints,
                    Some(cut),
                );
                assert!(
                    matches!(stopped, Err(TrainError::Interrupted { step, checkpoint: Some(_) }) if step == cut)
                );
            }
            let mut resumed = support::model(7);
            let again =
                run(&mut resumed, &mut preference(folder.path(), method), &checkpoints, None).unwrap();
            assert_eq!(support::bits(&whole), support::bits(&resumed), "{method} cut at {cuts:?}");
            assert_eq!(again.losses, summary.losses);
            assert_eq!(again.tokens, summary.tokens);
            assert_eq!(std::fs::read_dir(saved.path()).unwrap().count(), 1, "older checkpoints are deleted");
        }
    }
}

#[test]
fn what_a_killed_process_was_writing_goes() {
    let folder = tempfile::tempdir().unwrap();
    let saved = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints {
        folder: Some(saved.path().to_path_buf()),
        every_steps: None,
        identity: "a".into(),
        resume: true,
    };
    for name in [".step-Xy12Zw.tmp", ".tmpXy12Zw"] {
        std::fs::write(saved.path().join(name), b"half a checkpoint").unwrap();
    }
    run(&mut support::model(7), &mut preference(folder.path(), "pooled"), &checkpoints, Some(2)).unwrap_err();
    let names: Vec<_> =
        std::fs::read_dir(saved.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["step-0000000002.safetensors"]);
}

#[test]
fn sft_resumes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let store = support::completions(folder.path(), 30, 5);
    let objective = || Sft::new(store.clone(), 8, 11, Order::Shuffled).unwrap();
    let run = |model: &mut Llama, checkpoints: &Checkpoints, after: u64| {
        let stop = AtomicBool::new(false);
        let mut observer = StopAfter { after, stop: &stop };
        train(model, &mut objective(), &options(), checkpoints, &mut Control::new(&stop, &mut observer))
    };
    let mut whole = support::model(1);
    let summary = run(&mut whole, &Checkpoints::none(), u64::MAX).unwrap();
    assert!(summary.losses.last() < summary.losses.first(), "SFT learns: {:?}", summary.losses);
    let pairs = support::pairs(folder.path(), "pairs", 4, 5);
    let refused = Sft::new(pairs, 8, 11, Order::Shuffled).unwrap_err().to_string();
    assert!(refused.contains("preference pairs"), "{refused}");
    let saved = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints {
        folder: Some(saved.path().into()),
        every_steps: None,
        identity: "sft".into(),
        resume: true,
    };
    run(&mut support::model(1), &checkpoints, 7).unwrap_err();
    let mut resumed = support::model(1);
    run(&mut resumed, &checkpoints, u64::MAX).unwrap();
    assert_eq!(support::bits(&whole), support::bits(&resumed));
}

#[test]
fn a_wrong_or_damaged_checkpoint_is_named_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let saved = tempfile::tempdir().unwrap();
    let mut checkpoints = Checkpoints {
        folder: Some(saved.path().into()),
        every_steps: None,
        identity: "a".into(),
        resume: true,
    };
    run(&mut support::model(7), &mut preference(folder.path(), "ama-s"), &checkpoints, Some(2)).unwrap_err();
    let file = std::fs::read_dir(saved.path()).unwrap().next().unwrap().unwrap().path();
    let refused = |checkpoints: &Checkpoints| {
        let error = run(&mut support::model(7), &mut preference(folder.path(), "ama-s"), checkpoints, None)
            .unwrap_err();
        assert!(matches!(error, TrainError::Checkpoint { .. }), "{error}");
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
        error.to_string()
    };
    checkpoints.identity = "b".into();
    assert!(refused(&checkpoints).contains("other data"));
    checkpoints.identity = "a".into();
    let good = std::fs::read(&file).unwrap();
    for at in [3, 40, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&file, &bad).unwrap();
        assert!(refused(&checkpoints).contains("damaged") || at == 40, "flipped byte {at}");
    }
    std::fs::write(&file, &good[..good.len() - 5]).unwrap();
    assert!(refused(&checkpoints).contains("damaged"));
    // Without `resume` the old checkpoint is not looked at.
    std::fs::write(&file, &good).unwrap();
    let fresh = Checkpoints { resume: false, ..checkpoints };
    let stop = AtomicBool::new(false);
    let mut model = support::model(7);
    let mut objective = preference(folder.path(), "ama-s");
    let summary =
        train(&mut model, &mut objective, &options(), &fresh, &mut Control::new(&stop, &mut Silent)).unwrap();
    assert_eq!(summary.steps, 12);
}
