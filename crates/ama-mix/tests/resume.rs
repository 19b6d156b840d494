//! A mixer that was written to JSON and read back goes on with the same bits.

use ama_mix::{ExcessScale, MixError, Mixer, MixerSpec, MixerState, STATE_VERSION, TaskExcess};

fn specs() -> [MixerSpec; 16] {
    let (running, fixed) = (ExcessScale::default(), ExcessScale::Fixed(0.7));
    [
        MixerSpec::Pooled,
        MixerSpec::TaskNormalised,
        MixerSpec::Fixed { weights: vec![1.0, 2.0, 4.0] },
        MixerSpec::Temperature { tau: 0.5 },
        MixerSpec::GroupDro { eta: None, scale: running },
        MixerSpec::AmaR { eta: None, scale: running },
        MixerSpec::AmaR { eta: Some(0.3), scale: fixed },
        MixerSpec::AmaS { c: None, eta: None, scale: running },
        MixerSpec::AmaS { c: Some(0.3), eta: Some(0.2), scale: fixed },
        MixerSpec::AmaSIx { gamma: None, eta: None, scale: running },
        MixerSpec::Odm { smoothing: None, scale: fixed },
        MixerSpec::DoReMi { c: Some(0.1), eta: None, scale: running },
        MixerSpec::Term { tilt: Some(3.0) },
        MixerSpec::Famo { eta: Some(0.7), gamma: Some(0.1) },
        MixerSpec::Averaged(Box::new(MixerSpec::AmaR { eta: Some(0.3), scale: running })),
        MixerSpec::Averaged(Box::new(MixerSpec::AmaS { c: None, eta: None, scale: running })),
    ]
}

fn build(spec: &MixerSpec) -> Box<dyn Mixer + Send> {
    spec.build(&[1500, 6000, 400], 100).unwrap()
}

/// Some excess that depends on the step and on what the mixer does.
fn step(mixer: &mut dyn Mixer, step: usize) {
    let tasks: Vec<TaskExcess> = (0..3)
        .map(|task| TaskExcess {
            drawn: (step * 7 + task * 5) % 4 + usize::from(task == 0),
            mean_excess_nats: ((step * 3 + task) as f64).sin().abs() / (1.0 + mixer.alpha()[task]),
        })
        .collect();
    mixer.update(&tasks).unwrap();
}

#[test]
fn a_restored_mixer_goes_on_with_the_same_bits() {
    for spec in specs() {
        for cut in [0, 1, 17] {
            let mut straight = build(&spec);
            (0..cut).for_each(|at| step(&mut *straight, at));
            let json = serde_json::to_string(&straight.state()).unwrap();

            let mut resumed = build(&spec);
            (0..5).for_each(|at| step(&mut *resumed, at + 50)); // whatever it did before is forgotten
            resumed.restore(&serde_json::from_str::<MixerState>(&json).unwrap()).unwrap();

            for at in cut..cut + 40 {
                let show = |mixer: &dyn Mixer| {
                    let plan = mixer.plan();
                    let all = [plan.sampling, plan.loss_weight, &mixer.averaged_alpha()].concat();
                    (
                        all.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
                        mixer.excess_scale().map(f64::to_bits),
                    )
                };
                assert_eq!(show(&*straight), show(&*resumed), "{spec}, cut {cut}, step {at}");
                step(&mut *straight, at);
                step(&mut *resumed, at);
            }
            assert_eq!(straight.state(), resumed.state());
        }
    }
}

#[test]
fn damaged_or_foreign_states_are_refused_and_change_nothing() {
    for spec in specs() {
        let mut mixer = build(&spec);
        (0..9).for_each(|at| step(&mut *mixer, at));
        let good = mixer.state();
        assert_eq!(good.version, STATE_VERSION);
        let mut bad = vec![
            MixerState { version: STATE_VERSION + 1, ..good.clone() },
            MixerState { mixer: "somebody-else".to_owned(), ..good.clone() },
            MixerState { alpha_sum: vec![1.0; 2], ..good.clone() },
            MixerState { alpha_sum: vec![1.0, f64::NAN, 1.0], ..good.clone() },
            MixerState { log_weights: vec![0.0; 2], ..good.clone() },
            MixerState { running_scale: Some(f64::NAN), ..good.clone() },
        ];
        if good.log_weights.is_empty() {
            bad.push(MixerState { log_weights: vec![0.0; 3], ..good.clone() });
        } else {
            bad.push(MixerState { log_weights: vec![0.0, f64::NEG_INFINITY, 0.0], ..good.clone() });
        }
        if good.per_task.is_empty() {
            bad.push(MixerState { per_task: vec![0.0; 3], ..good.clone() });
        } else {
            bad.push(MixerState { per_task: vec![0.0; 2], ..good.clone() });
            bad.push(MixerState { per_task: vec![0.0, f64::INFINITY, 0.0], ..good.clone() });
        }
        if good.running_scale.is_none() {
            bad.push(MixerState { running_scale: Some(1.0), ..good.clone() });
        }
        for state in bad {
            assert!(mixer.restore(&state).is_err(), "{spec}: {state:?}");
            assert_eq!(mixer.state(), good);
        }
        mixer.restore(&good).unwrap();
    }
    let group_dro = build(&specs()[4]).state();
    let error = build(&specs()[5]).restore(&group_dro).unwrap_err();
    assert_eq!(error, MixError::StateMixer { want: "ama-r", got: "group-dro".to_owned() });
}

/// The format is a contract with checkpoints on disk.
#[test]
fn the_format_is_fixed() {
    let mut mixer =
        MixerSpec::AmaR { eta: Some(0.5), scale: ExcessScale::default() }.build(&[1, 1], 1).unwrap();
    mixer.update(&[TaskExcess { drawn: 1, mean_excess_nats: 0.0 }; 2]).unwrap();
    let want = r#"{"version":1,"mixer":"ama-r","log_weights":[0.0,0.0],"running_scale":0.0,"steps":1,"alpha_sum":[0.5,0.5]}"#;
    assert_eq!(serde_json::to_string(&mixer.state()).unwrap(), want);
    let unknown = want.replace("\"steps\"", "\"stepz\"");
    assert!(serde_json::from_str::<MixerState>(&unknown).is_err());
}
