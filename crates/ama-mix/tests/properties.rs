//! What must hold for every mixer after any updates.

use ama_mix::{AmaR, AmaS, ExcessScale, MixError, Mixer, MixerSpec, TaskExcess};
use proptest::prelude::*;

const TASKS: usize = 4;
const SIZES: [usize; TASKS] = [900, 30, 400, 7];
const C: f64 = 0.2;

fn scales() -> impl Strategy<Value = ExcessScale> {
    prop_oneof![
        Just(ExcessScale::Fixed(1.0)),
        Just(ExcessScale::Fixed(1e-3)),
        Just(ExcessScale::default()),
        Just(ExcessScale::Running { decay: 0.0 }),
    ]
}

fn specs() -> impl Strategy<Value = MixerSpec> {
    let eta = prop_oneof![Just(None), (0.0..10.0).prop_map(Some)];
    (0..14, eta, scales()).prop_map(|(which, eta, scale)| match which {
        0 => MixerSpec::Pooled,
        1 => MixerSpec::TaskNormalised,
        2 => MixerSpec::Fixed { weights: vec![1.0, 0.0, 2.0, 0.5] },
        3 => MixerSpec::Temperature { tau: 0.3 },
        4 => MixerSpec::GroupDro { eta, scale },
        5 => MixerSpec::AmaR { eta, scale },
        6 => MixerSpec::AmaSIx { gamma: None, eta, scale },
        7 => MixerSpec::Odm { smoothing: None, scale },
        8 => MixerSpec::DoReMi { c: Some(C), eta, scale },
        9 => MixerSpec::Term { tilt: eta.map(|tilt| tilt - 5.0) },
        10 => MixerSpec::Famo { eta, gamma: None },
        11 => MixerSpec::Averaged(Box::new(MixerSpec::AmaR { eta, scale })),
        12 => MixerSpec::Averaged(Box::new(MixerSpec::AmaS { c: Some(C), eta, scale })),
        _ => MixerSpec::AmaS { c: Some(C), eta, scale },
    })
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        0.0..5.0,
        -5.0..5.0,
        Just(0.0),
        prop::num::f64::NORMAL,
        prop::num::f64::SUBNORMAL,
        Just(f64::MAX),
        Just(f64::MIN),
    ]
}

prop_compose! {
    /// At least one pair, so that it is never refused.
    fn update()(rows in prop::collection::vec((0usize..40, finite()), TASKS), extra in 0..TASKS) -> Vec<TaskExcess> {
        let mut tasks: Vec<_> =
            rows.into_iter().map(|(drawn, mean_excess_nats)| TaskExcess { drawn, mean_excess_nats }).collect();
        tasks[extra].drawn += 1;
        tasks
    }
}

fn updates() -> impl Strategy<Value = Vec<Vec<TaskExcess>>> {
    prop::collection::vec(update(), 0..30)
}

fn assert_simplex(weights: &[f64], floor: f64, what: &str) {
    let sum: f64 = weights.iter().sum();
    assert!((sum - 1.0).abs() < 1e-12, "{what}: sum {sum}");
    assert!(
        weights.iter().all(|&weight| weight >= floor && weight <= 1.0),
        "{what}: {weights:?} below {floor}"
    );
}

/// An update that is refused only for pairs of a task whose probability has gone to 0 (a bandit without a floor).
fn learn(mixer: &mut dyn Mixer, tasks: &[TaskExcess]) {
    let possible = |(seen, &share): (&TaskExcess, &f64)| seen.drawn == 0 || share > 0.0;
    let possible = tasks.iter().zip(mixer.plan().sampling).all(possible);
    match mixer.update(tasks) {
        Ok(()) => {}
        Err(MixError::ImpossibleDraw { .. }) if !possible => {}
        Err(error) => panic!("{}: {error}", mixer.name()),
    }
}

fn build(spec: &MixerSpec, history: &[Vec<TaskExcess>]) -> Box<dyn Mixer + Send> {
    let mut mixer = spec.build(&SIZES, 50).unwrap();
    for tasks in history {
        learn(&mut *mixer, tasks);
    }
    mixer
}

/// Every number that a mixer shows, as bits.
fn bits(mixer: &dyn Mixer) -> Vec<u64> {
    let (plan, average) = (mixer.plan(), mixer.averaged_alpha());
    let parts = [plan.sampling, plan.loss_weight, mixer.alpha(), &average];
    let scale = mixer.excess_scale().map_or(u64::MAX, f64::to_bits);
    parts.into_iter().flatten().map(|value| value.to_bits()).chain([scale]).collect()
}

proptest! {
    #[test]
    fn distributions_stay_on_the_simplex(spec in specs(), history in updates()) {
        let mixer = build(&spec, &history);
        let floor = if matches!(spec, MixerSpec::AmaS { .. }) { C / TASKS as f64 } else { 0.0 };
        assert_simplex(mixer.plan().sampling, floor, "sampling");
        assert_simplex(mixer.alpha(), floor, "alpha");
        assert_simplex(&mixer.averaged_alpha(), floor * (1.0 - 1e-12), "averaged alpha");
        let doremi = matches!(spec, MixerSpec::DoReMi { .. });
        if doremi {
            assert_simplex(mixer.alpha(), C / TASKS as f64 * (1.0 - 1e-12), "smoothed alpha");
        }
        // An average over what is drawn may weigh a pair up, but never a task beyond its mean.
        for (weight, share) in mixer.plan().loss_weight.iter().zip(mixer.plan().sampling) {
            let most = if matches!(spec, MixerSpec::Averaged(_)) { (1.0 + 1e-12) / share } else { 1.0 };
            prop_assert!((0.0..=most).contains(weight), "{weight}");
        }
    }

    #[test]
    fn equal_excess_keeps_ama_r(history in updates(), excess in 0.0..5.0f64, scale in scales()) {
        let spec = MixerSpec::AmaR { eta: Some(0.5), scale };
        let mut mixer = build(&spec, &history);
        let before = mixer.alpha().to_vec();
        mixer.update(&[TaskExcess { drawn: 3, mean_excess_nats: excess }; TASKS]).unwrap();
        for (before, after) in before.iter().zip(mixer.alpha()) {
            // A shift of all log-weights by eta e / M costs the rounding of that shift.
            prop_assert!((before - after).abs() < 1e-11, "{before} {after}");
        }
    }

    /// From equal weights, equal losses keep every mixer there that treats the tasks alike (all were drawn alike).
    #[test]
    fn equal_losses_keep_equal_weights(
        spec in specs(),
        losses in prop::collection::vec(prop_oneof![0.0..5.0, Just(f64::MAX), Just(0.0)], 1..30),
        drawn in 1usize..20,
    ) {
        prop_assume!(!matches!(
            spec,
            MixerSpec::Pooled | MixerSpec::Fixed { .. } | MixerSpec::Temperature { .. }
        ));
        let history: Vec<_> = losses
            .iter()
            .map(|&mean_excess_nats| vec![TaskExcess { drawn, mean_excess_nats }; TASKS])
            .collect();
        let mixer = build(&spec, &history);
        for alpha in mixer.alpha().iter().chain(&mixer.averaged_alpha()) {
            prop_assert!((alpha - 0.25).abs() < 1e-11, "{alpha}");
        }
        for (weight, share) in mixer.plan().loss_weight.iter().zip(mixer.plan().sampling) {
            prop_assert!((weight * share - mixer.plan().loss_weight[0] * 0.25).abs() < 1e-11);
        }
    }

    /// The worst task gains, the best loses: what makes any of them an adversary (or a baseline like one).
    #[test]
    fn the_worst_task_gets_the_most(which in 0..6usize, best in 0.1..1.0f64, worse in 0.2..1.0f64) {
        let (eta, scale) = (Some(0.3), ExcessScale::Fixed(2.0));
        // ODM explores alone for its first k ln k = 5 steps.
        let (spec, steps) = [
            (MixerSpec::AmaR { eta, scale }, 6),
            (MixerSpec::AmaS { c: Some(C), eta, scale }, 3),
            (MixerSpec::AmaSIx { gamma: None, eta, scale }, 3),
            (MixerSpec::Odm { smoothing: None, scale }, 7),
            (MixerSpec::DoReMi { c: None, eta, scale }, 6),
            (MixerSpec::Term { tilt: None }, 1),
        ][which].clone();
        let task = |rank: f64| TaskExcess { drawn: 2, mean_excess_nats: best + rank * worse };
        let mixer = build(&spec, &vec![vec![task(0.0), task(1.0), task(0.0), task(0.0)]; steps]);
        let alpha = mixer.alpha();
        prop_assert!(alpha[1] > alpha[0] && alpha[0] > 0.0, "{spec}: {alpha:?}");
    }

    /// Equal importance-weighted excess: mean_i = v B alpha_i / drawn_i.
    #[test]
    fn equal_excess_keeps_ama_s(history in updates(), excess in 0.0..5.0f64, drawn in prop::array::uniform4(1usize..20)) {
        let spec = MixerSpec::AmaS { c: Some(C), eta: Some(0.5), scale: ExcessScale::Fixed(1.0) };
        let mut mixer = build(&spec, &history);
        let before = mixer.alpha().to_vec();
        let pairs: usize = drawn.iter().sum();
        let tasks: Vec<_> = (0..TASKS).map(|task| TaskExcess {
            drawn: drawn[task],
            mean_excess_nats: excess * pairs as f64 * before[task] / drawn[task] as f64,
        }).collect();
        mixer.update(&tasks).unwrap();
        for (before, after) in before.iter().zip(mixer.alpha()) {
            prop_assert!((before - after).abs() < 1e-11, "{before} {after}");
        }
    }

    #[test]
    fn a_refused_update_changes_nothing(
        spec in specs(),
        history in updates(),
        good in update(),
        at in 0..TASKS,
        bad in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)],
    ) {
        let mut mixer = build(&spec, &history);
        let (before, state) = (bits(&*mixer), mixer.state());
        let mut poisoned = good.clone();
        poisoned[at] = TaskExcess { drawn: 1, mean_excess_nats: bad };
        let mut longer = good.clone();
        longer.push(good[0]);
        let refused = [poisoned, longer, good[1..].to_vec(), vec![], vec![TaskExcess::default(); TASKS]];
        for tasks in refused {
            prop_assert!(mixer.update(&tasks).is_err(), "{tasks:?}");
            prop_assert_eq!(&before, &bits(&*mixer));
            prop_assert_eq!(&state, &mixer.state());
        }
        learn(&mut *mixer, &good);
    }

    /// A running scale takes the unit out: nats or bits, the weights are the same.
    #[test]
    fn a_running_scale_has_no_unit(
        rows in prop::collection::vec(prop::array::uniform4(0.01..5.0f64), 1..20),
        power in -8..9i32,
    ) {
        let scale = ExcessScale::default();
        for spec in [MixerSpec::AmaR { eta: None, scale }, MixerSpec::AmaS { c: None, eta: None, scale }] {
            let history = |unit: f64| -> Vec<Vec<TaskExcess>> {
                let task = |mean: &f64| TaskExcess { drawn: 2, mean_excess_nats: mean * unit };
                rows.iter().map(|row| row.iter().map(task).collect()).collect()
            };
            let (one, other) = (build(&spec, &history(1.0)), build(&spec, &history(2f64.powi(power))));
            prop_assert_eq!(one.alpha(), other.alpha());
        }
    }

    /// The names of the tasks do not matter.
    #[test]
    fn tasks_may_be_permuted(history in updates(), turn in 1..TASKS, scale in scales()) {
        for spec in [MixerSpec::AmaR { eta: Some(0.3), scale }, MixerSpec::AmaS { c: Some(C), eta: Some(0.3), scale }] {
            let turned: Vec<Vec<TaskExcess>> = history.iter().map(|tasks| {
                let mut tasks = tasks.clone();
                tasks.rotate_left(turn);
                tasks
            }).collect();
            let mut want = build(&spec, &history).alpha().to_vec();
            want.rotate_left(turn);
            // The sum that normalises runs in another order; AMA-S divides its last bit by alpha and compounds.
            // Huge excess makes that chaotic, so only the tame histories are compared closely.
            let tame = history.iter().flatten().all(|task| task.mean_excess_nats.abs() <= 5.0);
            if tame && scale != ExcessScale::Fixed(1e-3) {
                for (want, got) in want.iter().zip(build(&spec, &turned).alpha()) {
                    prop_assert!((want - got).abs() < 1e-9, "{want} {got}");
                }
            }
        }
    }
}

#[test]
fn a_million_huge_updates_stay_finite() {
    for huge in [1e6, 1e300, f64::MAX, f64::MIN] {
        for scale in [ExcessScale::Fixed(1e-300), ExcessScale::Fixed(1.0), ExcessScale::default()] {
            let mut reweighting = AmaR::new(3, 1e10, scale).unwrap();
            let mut resampling = AmaS::new(3, 0.1, 1e10, scale).unwrap();
            // The huge excess goes round; a twelfth of a million for each of the twelve settings and a mixer of
            // each kind, so that every run passes the saturation many times.
            for step in 0..1_000_000 / 12 {
                let mut tasks = [TaskExcess { drawn: 16, mean_excess_nats: 0.0 }; 3];
                tasks[step % 3].mean_excess_nats = huge;
                reweighting.update(&tasks).unwrap();
                resampling.update(&tasks).unwrap();
            }
            for (mixer, floor) in [(&reweighting as &dyn Mixer, 0.0), (&resampling, 0.1 / 3.0)] {
                assert_simplex(mixer.alpha(), floor, mixer.name());
                let state = mixer.state();
                assert!(state.log_weights.iter().all(|log| log.is_finite()), "{state:?}");
                assert!(state.running_scale.is_none_or(f64::is_finite), "{state:?}");
                assert!(mixer.averaged_alpha().iter().all(|alpha| alpha.is_finite()));
            }
        }
    }
    // And one long run each, always the same way.
    let mut reweighting = AmaR::new(2, 1.0, ExcessScale::Fixed(1.0)).unwrap();
    let mut resampling = AmaS::new(2, 0.1, 1.0, ExcessScale::Fixed(1.0)).unwrap();
    let tasks =
        [TaskExcess { drawn: 1, mean_excess_nats: 1e30 }, TaskExcess { drawn: 1, mean_excess_nats: 0.0 }];
    for _ in 0..1_000_000 {
        reweighting.update(&tasks).unwrap();
        resampling.update(&tasks).unwrap();
    }
    assert_eq!(reweighting.alpha(), [1.0, 0.0]);
    assert_simplex(resampling.alpha(), 0.05, "ama-s");
    assert!((resampling.alpha()[0] - 0.95).abs() < 1e-12);
}

#[test]
fn pairs_from_a_task_of_probability_zero_are_refused() {
    // c = 0 lets q underflow.
    let mut mixer = AmaS::new(2, 0.0, 1.0, ExcessScale::Fixed(1.0)).unwrap();
    let of_first = [TaskExcess { drawn: 4, mean_excess_nats: 1e9 }, TaskExcess::default()];
    mixer.update(&of_first).unwrap();
    assert_eq!(mixer.alpha(), [1.0, 0.0]);
    let before = mixer.state();
    let of_second = [TaskExcess::default(), TaskExcess { drawn: 3, mean_excess_nats: 0.0 }];
    assert_eq!(mixer.update(&of_second), Err(MixError::ImpossibleDraw { task: 1, drawn: 3 }));
    assert_eq!(mixer.state(), before);
    mixer.update(&of_first).unwrap();
}

#[test]
fn settings_out_of_range_are_refused() {
    let scale = ExcessScale::default();
    for eta in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(AmaR::new(2, eta, scale).is_err());
        assert!(AmaS::new(2, 0.1, eta, scale).is_err());
    }
    for c in [-0.1, 1.1, f64::NAN] {
        assert!(AmaS::new(2, c, 0.1, scale).is_err());
    }
    assert!(AmaR::new(0, 0.1, scale).is_err());
    assert!(AmaS::new(0, 0.1, 0.1, scale).is_err());
    let bad = |spec: MixerSpec| spec.build(&SIZES, 9).err().unwrap().to_string();
    for value in [-0.1, 1.0, f64::NAN] {
        assert!(bad(MixerSpec::Odm { smoothing: Some(value), scale }).contains("smoothing"));
    }
    for value in [-0.1, 1.1, f64::NAN] {
        assert!(bad(MixerSpec::DoReMi { c: Some(value), eta: None, scale }).contains("c is"));
    }
    for value in [0.0, -1.0, f64::INFINITY] {
        assert!(bad(MixerSpec::AmaSIx { gamma: Some(value), eta: None, scale }).contains("gamma"));
    }
    assert!(bad(MixerSpec::Term { tilt: Some(f64::NAN) }).contains("tilt"));
    assert!(bad(MixerSpec::Famo { eta: Some(-1.0), gamma: None }).contains("beta"));
    assert!(bad(MixerSpec::Famo { eta: None, gamma: Some(f64::NAN) }).contains("gamma"));
    assert!(MixerSpec::Temperature { tau: f64::NAN }.build(&SIZES, 1).is_err());
    assert!(MixerSpec::Fixed { weights: vec![0.0; TASKS] }.build(&SIZES, 1).is_err());
}
