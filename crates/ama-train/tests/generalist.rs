//! Stage 2: what is computed, what is recorded, and what is not run.

mod support;

use std::sync::atomic::AtomicBool;

use ama_data::Order;
use ama_loss::{PreferenceKind, PreferenceLoss};
use ama_mix::{ExcessMode, GradientClip, MixerSpec, TaskExcess};
use ama_model::Llama;
use ama_model::access::values;
use ama_train::{
    AdamWOptions, Budget, Checkpoints, Control, Observer, Preference, PreferenceOptions, Schedule, Stage,
    StepRecord, TrainError, TrainOptions, TrainTask, train,
};

fn options(micro_batch_tokens: usize) -> TrainOptions {
    TrainOptions {
        budget: Budget::Steps(6),
        schedule: Schedule::constant(2e-3),
        optimiser: AdamWOptions::default(),
        clip_norm: Some(1.0),
        micro_batch_tokens,
        checkpoint_activations: false,
    }
}

fn preference_options(excess: ExcessMode) -> PreferenceOptions {
    PreferenceOptions {
        loss: PreferenceLoss::new(PreferenceKind::Sigmoid { label_smoothing: 0.0 }, 0.5, 0.5).unwrap(),
        batch_pairs: 8,
        excess,
        gradient_clip: GradientClip::Pair,
        order: Order::Shuffled,
        seed: 9,
        stage: Stage::Generalist,
    }
}

fn objective(tasks: Vec<TrainTask>, method: &str) -> Preference {
    let spec: MixerSpec = method.parse().unwrap();
    let sizes: Vec<usize> = tasks.iter().map(|t| t.pairs.len()).collect();
    let excess = if spec.needs_specialists() { ExcessMode::Clipped } else { ExcessMode::Raw };
    Preference::new(tasks, spec.build(&sizes, 6).unwrap(), preference_options(excess)).unwrap()
}

#[derive(Default)]
struct Keep(Vec<StepRecord>);
impl Observer for Keep {
    fn step(&mut self, record: &StepRecord, _: u64, _: u64) {
        self.0.push(record.clone());
    }
}

fn run(model: &mut Llama, objective: &mut Preference, micro: usize) -> Result<Vec<StepRecord>, TrainError> {
    let stop = AtomicBool::new(false);
    let mut keep = Keep::default();
    train(model, objective, &options(micro), &Checkpoints::none(), &mut Control::new(&stop, &mut keep))?;
    Ok(keep.0)
}

#[test]
fn stage_two_runs_no_reference_and_no_specialist_forward() {
    let folder = tempfile::tempdir().unwrap();
    let reference = support::model(4);
    let tasks = support::tasks(folder.path(), &reference);
    let scored = reference.forwards();
    for method in ["pooled", "ama-r", "ama-s"] {
        let mut policy = support::model(4);
        run(&mut policy, &mut objective(tasks.clone(), method), 1 << 20).unwrap();
        assert_eq!(policy.forwards(), 6, "{method}: one policy forward a step");
        assert_eq!(reference.forwards(), scored, "{method}: the reference was not run again");
    }
}

/// Cutting a batch into micro-batches changes nothing but rounding, also where the weights depend on the whole batch.
#[test]
fn micro_batches_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let reference = support::model(4);
    let tasks = support::tasks(folder.path(), &reference);
    for (method, passes) in [("pooled", 1), ("ama-s", 1), ("ama-r", 2), ("group-dro", 2)] {
        let (mut whole, mut cut) = (support::model(4), support::model(4));
        let a = run(&mut whole, &mut objective(tasks.clone(), method), 1 << 20).unwrap();
        let b = run(&mut cut, &mut objective(tasks.clone(), method), 40).unwrap();
        assert!(cut.forwards() > 6 * passes, "{method}: the batch really was cut");
        for (a, b) in a.iter().zip(&b) {
            assert!((a.loss - b.loss).abs() < 1e-4, "{method} step {}: {} vs {}", a.step, a.loss, b.loss);
            assert!(
                (a.grad_norm - b.grad_norm).abs() < 1e-3 * a.grad_norm.max(1.0),
                "{method} step {}",
                a.step
            );
        }
    }
}

/// The mixer's trajectory follows from the log alone.
#[test]
fn metrics_are_enough_to_recompute_alpha() {
    let folder = tempfile::tempdir().unwrap();
    let reference = support::model(4);
    let tasks = support::tasks(folder.path(), &reference);
    let sizes: Vec<usize> = tasks.iter().map(|t| t.pairs.len()).collect();
    for method in ["ama-r", "ama-s", "group-dro"] {
        let records = run(&mut support::model(4), &mut objective(tasks.clone(), method), 1 << 20).unwrap();
        let mut mixer = method.parse::<MixerSpec>().unwrap().build(&sizes, 6).unwrap();
        for record in &records {
            let before = mixer.alpha().to_vec();
            let seen: Vec<TaskExcess> = tasks
                .iter()
                .map(|t| TaskExcess {
                    drawn: record.drawn[&t.name] as usize,
                    mean_excess_nats: record.excess[&t.name].unwrap_or(0.0),
                })
                .collect();
            mixer.update(&seen).unwrap();
            // AMA-R and Group DRO step with the new weights, AMA-S with those the batch was drawn from.
            let used = if method == "ama-s" { before } else { mixer.alpha().to_vec() };
            let logged: Vec<f64> = tasks.iter().map(|t| record.alpha[&t.name]).collect();
            assert_eq!(used, logged, "{method} step {}", record.step);
            assert_eq!(mixer.excess_scale(), record.excess_scale);
        }
        let moved = records.last().unwrap().alpha["large"] - records[0].alpha["large"];
        assert!(moved.abs() > 1e-3, "{method} moved its weights by {moved}");
    }
}

/// A pair at or below its specialist gives no gradient: with unreachable specialists nothing moves.
#[test]
fn clipped_pairs_do_not_move_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let reference = support::model(4);
    let mut tasks = support::tasks(folder.path(), &reference);
    for task in &mut tasks {
        task.specialist_loss_nats = Some(vec![1e6; task.pairs.len()]);
    }
    let mut policy = support::model(4);
    let records = run(&mut policy, &mut objective(tasks, "ama-s"), 1 << 20).unwrap();
    assert_eq!(support::bits(&policy), support::bits(&support::model(4)));
    assert!(records.iter().all(|r| r.active == Some(0.0) && r.loss == 0.0 && r.grad_norm == 0.0));
}

#[test]
fn a_nan_stops_the_run_and_names_the_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let reference = support::model(4);
    let mut tasks = support::tasks(folder.path(), &reference);
    let poisoned = 5;
    tasks[1].reference[poisoned].chosen_logp = f64::NAN;
    let place = format!("small: {}", tasks[1].pairs.place(poisoned));
    let saved = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints {
        folder: Some(saved.path().into()),
        every_steps: None,
        identity: "nan".into(),
        resume: true,
    };
    let stop = AtomicBool::new(false);
    let mut keep = Keep::default();
    let mut objective = objective(tasks, "task-normalised");
    let many = TrainOptions { budget: Budget::Steps(200), ..options(1 << 20) };
    let mut policy = support::model(4);
    let error = train(&mut policy, &mut objective, &many, &checkpoints, &mut Control::new(&stop, &mut keep))
        .unwrap_err();
    let TrainError::NonFinite { step, pairs, checkpoint, .. } = &error else { panic!("{error}") };
    assert_eq!(pairs, &place);
    assert!(place.contains(", row "), "{place}");
    assert_eq!(*step, keep.0.len() as u64, "the failed step is not counted");
    assert!(checkpoint.as_ref().is_some_and(|p| p.is_file()), "the last good state is on disk");
    assert!(policy.params().iter().all(|p| values(&p.tensor).iter().all(|v| v.is_finite())));
}

#[test]
fn missing_numbers_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let reference = support::model(4);
    let tasks = support::tasks(folder.path(), &reference);
    let build = |tasks: Vec<TrainTask>| {
        let mixer = "ama-s".parse::<MixerSpec>().unwrap().build(&[40, 12], 6).unwrap();
        Preference::new(tasks, mixer, preference_options(ExcessMode::Clipped))
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let mut none = tasks.clone();
    none[1].specialist_loss_nats = None;
    assert!(build(none).contains("small"));
    let mut short = tasks.clone();
    short[0].reference.pop();
    assert!(build(short).contains("39 rows but the data has 40"));
    assert!(build(tasks[..1].to_vec()).contains("tasks"));
}
