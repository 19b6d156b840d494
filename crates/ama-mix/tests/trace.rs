//! Three steps of every mixer, worked by hand. Steps of `ln 2` make every exponential a power of two.

use ama_mix::{
    AmaR, AmaS, DrawRule, ExcessScale, Fixed, GroupDro, Mixer, Pooled, TaskExcess, TaskNormalised,
    temperature,
};
use std::f64::consts::LN_2;

fn seen(rows: &[(usize, f64)]) -> Vec<TaskExcess> {
    rows.iter().map(|&(drawn, mean_excess_nats)| TaskExcess { drawn, mean_excess_nats }).collect()
}

#[track_caller]
fn close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 1e-14, "{got} vs {want}");
    }
}

/// eta = ln 2, M = 1: weights are multiplied by 2^e.
///
/// | step | e       | unnormalised        | alpha            |
/// |------|---------|---------------------|------------------|
/// | 1    | 1, 0, 2 | 2, 1, 4             | 2/7, 1/7, 4/7    |
/// | 2    | 2, 3, 0 | 8, 8, 4             | 2/5, 2/5, 1/5    |
/// | 3    | 0, -, 1 | 2, 2, 2 (times 1/5) | 1/3, 1/3, 1/3    |
///
/// In step 3 task 1 is not in the batch: its (absurd) mean is not read. Step 1's pairs, drawn 2 of each task: a
/// pair of task 0 weighs (2/7)/2, of task 1 (1/7)/2, of task 2 (4/7)/2.
fn reweighting(mut mixer: impl Mixer) {
    assert!(mixer.loss_weight_depends_on_batch());
    assert_eq!(mixer.plan().draw, DrawRule::Stratified);
    close(mixer.alpha(), &[1.0 / 3.0; 3]);
    close(&mixer.averaged_alpha(), &[1.0 / 3.0; 3]);

    mixer.update(&seen(&[(2, 1.0), (2, 0.0), (2, 2.0)])).unwrap();
    close(mixer.alpha(), &[2.0 / 7.0, 1.0 / 7.0, 4.0 / 7.0]);
    let pairs = mixer.plan().pair_weights(&[0, 0, 1, 1, 2, 2]).unwrap();
    close(&pairs, &[1.0 / 7.0, 1.0 / 7.0, 0.5 / 7.0, 0.5 / 7.0, 2.0 / 7.0, 2.0 / 7.0]);

    mixer.update(&seen(&[(2, 2.0), (2, 3.0), (2, 0.0)])).unwrap();
    close(mixer.alpha(), &[0.4, 0.4, 0.2]);

    mixer.update(&seen(&[(2, 0.0), (0, 1e9), (2, 1.0)])).unwrap();
    close(mixer.alpha(), &[1.0 / 3.0; 3]);
    close(mixer.plan().loss_weight, &[1.0 / 3.0; 3]);
    close(mixer.plan().sampling, &[1.0 / 3.0; 3]);
    // (2/7 + 2/5 + 1/3) / 3 = 107/315, (1/7 + 2/5 + 1/3) / 3 = 92/315, (4/7 + 1/5 + 1/3) / 3 = 116/315.
    close(&mixer.averaged_alpha(), &[107.0 / 315.0, 92.0 / 315.0, 116.0 / 315.0]);
}

#[test]
fn ama_r_with_a_fixed_scale() {
    reweighting(AmaR::new(3, LN_2, ExcessScale::Fixed(1.0)).unwrap());
    // Doubling step and scale changes nothing.
    reweighting(AmaR::new(3, 2.0 * LN_2, ExcessScale::Fixed(2.0)).unwrap());
}

#[test]
fn group_dro_is_the_same_update() {
    reweighting(GroupDro::new(3, LN_2, ExcessScale::Fixed(1.0)).unwrap());
}

/// eta = 2 ln 2, decay 1/2: M sees the step before the weights use it.
///
/// | step | e         | M                 | eta e / M (in ln 2) | unnormalised | alpha      |
/// |------|-----------|-------------------|---------------------|--------------|------------|
/// | 1    | 4, 2      | 4                 | 2, 1                | 4, 2         | 2/3, 1/3   |
/// | 2    | 0, 2      | 2 + 1 = 3         | 0, 4/3              | 2, 2^(4/3)   |            |
/// | 3    | 2, 5      | 1.5 + 2.5 = 4     | 1, 5/2              |              |            |
///
/// After step 3 the log2-weights are 2 + 0 + 1 = 3 and 1 + 4/3 + 5/2 = 29/6; the first share is
/// 1 / (1 + 2^(11/6)) = 0.2191254981927747 (Python's decimal, 40 digits).
#[test]
fn ama_r_with_a_running_scale() {
    let mut mixer = AmaR::new(2, 2.0 * LN_2, ExcessScale::Running { decay: 0.5 }).unwrap();
    assert_eq!(mixer.excess_scale(), None);
    mixer.update(&seen(&[(1, 4.0), (1, 2.0)])).unwrap();
    assert_eq!(mixer.excess_scale(), Some(4.0));
    close(mixer.alpha(), &[2.0 / 3.0, 1.0 / 3.0]);
    mixer.update(&seen(&[(1, 0.0), (1, 2.0)])).unwrap();
    assert_eq!(mixer.excess_scale(), Some(3.0));
    mixer.update(&seen(&[(1, 2.0), (1, 5.0)])).unwrap();
    assert_eq!(mixer.excess_scale(), Some(4.0));
    close(mixer.alpha(), &[0.2191254981927747, 1.0 - 0.2191254981927747]);
}

/// k = 2, c = 1/2, eta = ln 2, M = 1, B = 4; e_i = drawn_i mean_i / (4 alpha_i); alpha = q/2 + 1/4.
///
/// | step | alpha      | drawn | mean | e                          | q unnormalised | q         |
/// |------|------------|-------|------|----------------------------|----------------|-----------|
/// | 1    | .5, .5     | 1, 3  | 2, 2 | 2/(4 .5) = 1, 6/(4 .5) = 3 | 2, 8           | .2, .8    |
/// | 2    | .35, .65   | 4, 0  | .7,- | 2.8/(4 .35) = 2, 0         | 4 .2, .8       | .5, .5    |
/// | 3    | .5, .5     | 2, 2  | 3, 1 | 6/(4 .5) = 3, 1            | 8, 2           | .8, .2    |
///
/// The next step would draw from (.65, .35). The three used average (.45, .55).
#[test]
fn ama_s_with_a_fixed_scale() {
    let mut mixer = AmaS::new(2, 0.5, LN_2, ExcessScale::Fixed(1.0)).unwrap();
    assert!(!mixer.loss_weight_depends_on_batch());
    assert_eq!(mixer.plan().draw, DrawRule::Sampled);
    close(mixer.plan().sampling, &[0.5, 0.5]);

    mixer.update(&seen(&[(1, 2.0), (3, 2.0)])).unwrap();
    close(mixer.plan().sampling, &[0.35, 0.65]);

    mixer.update(&seen(&[(4, 0.7), (0, f64::INFINITY)])).unwrap();
    close(mixer.plan().sampling, &[0.5, 0.5]);

    mixer.update(&seen(&[(2, 3.0), (2, 1.0)])).unwrap();
    close(mixer.plan().sampling, &[0.65, 0.35]);
    close(mixer.alpha(), &[0.65, 0.35]);
    close(&mixer.averaged_alpha(), &[0.45, 0.55]);
    // The model steps on the unweighted mean: no importance weight.
    assert_eq!(mixer.plan().pair_weights(&[0, 1, 0, 0]).unwrap(), [0.25; 4]);
}

/// k = 2, c = 1/2, eta = ln 2, B = 2, running scale with decay 1/2 over the mean excess (not over the
/// importance-weighted one).
///
/// | step | alpha    | drawn | mean   | M               | e                        | e / M  | q unnormalised |
/// |------|----------|-------|--------|-----------------|--------------------------|--------|----------------|
/// | 1    | .5, .5   | 1, 1  | 4, 2   | 4               | 4/(2 .5) = 4, 2          | 1, 1/2 | 2, 2^(1/2)     |
/// | 2    | a, 1-a   | 0, 2  | -, 2   | 2 + 1 = 3       | 0, 4/(2(1-a)) = 2/(1-a)  |        |                |
/// | 3    | b, 1-b   | 1, 1  | 1, 5   | 1.5 + 2.5 = 4   | 1/(2b), 5/(2(1-b))       |        |                |
#[test]
fn ama_s_with_a_running_scale() {
    let mut mixer = AmaS::new(2, 0.5, LN_2, ExcessScale::Running { decay: 0.5 }).unwrap();
    for (step, (rows, scale)) in
        [([(1, 4.0), (1, 2.0)], 4.0), ([(0, 0.0), (2, 2.0)], 3.0), ([(1, 1.0), (1, 5.0)], 4.0)]
            .iter()
            .enumerate()
    {
        mixer.update(&seen(rows)).unwrap();
        assert_eq!(mixer.excess_scale(), Some(*scale));
        close(mixer.alpha(), &[SHARES_S[step], 1.0 - SHARES_S[step]]);
    }
}
/// alpha_0 after each step, worked with Python's decimal to 40 digits.
const SHARES_S: [f64; 3] = [0.5428932188134524, 0.4198820293866953, 0.3653140500507932];

/// The constant mixers: sizes 6000, 1500, 500.
///
/// - pooled: 6000/8000, 1500/8000, 500/8000, the union as it comes, pairs weigh 1/B;
/// - task-normalised: 1/3 each, stratified, a pair weighs (1/3)/n_i;
/// - fixed 6 : 3 : 1: .6, .3, .1;
/// - temperature 1/2 of sizes 6400, 1600, 400: 80 : 40 : 20 = 4/7, 2/7, 1/7; 0: 1/3 each; 1: as pooled;
///   -1: 1/6400 : 1/1600 : 1/400 = 1 : 4 : 16, of 21.
#[test]
fn the_constant_mixtures() {
    #[track_caller]
    fn check(mut mixer: impl Mixer, draw: DrawRule, share: [f64; 3], pair_weights: [f64; 4]) {
        for step in 0..=3 {
            assert!(!mixer.loss_weight_depends_on_batch());
            assert_eq!((mixer.plan().draw, mixer.excess_scale()), (draw, None));
            close(mixer.plan().sampling, &share);
            close(mixer.alpha(), &share);
            close(&mixer.averaged_alpha(), &share);
            close(&mixer.plan().pair_weights(&[0, 0, 1, 2]).unwrap(), &pair_weights);
            assert_eq!(mixer.state().steps, step);
            mixer.update(&seen(&[(2, 9.0), (1, -3.0), (1, 0.0)])).unwrap();
        }
    }
    let third = 1.0 / 3.0;
    check(Pooled::new(&[6000, 1500, 500]).unwrap(), DrawRule::Union, [0.75, 0.1875, 0.0625], [0.25; 4]);
    let means = [third / 2.0, third / 2.0, third, third];
    check(TaskNormalised::new(3).unwrap(), DrawRule::Stratified, [third; 3], means);
    check(Fixed::new(&[6.0, 3.0, 1.0]).unwrap(), DrawRule::Sampled, [0.6, 0.3, 0.1], [0.25; 4]);
    let sizes = [6400, 1600, 400];
    for (tau, share) in [
        (0.5, [4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0]),
        (0.0, [third; 3]),
        (1.0, [16.0 / 21.0, 4.0 / 21.0, 1.0 / 21.0]),
        (-1.0, [1.0 / 21.0, 4.0 / 21.0, 16.0 / 21.0]),
    ] {
        check(temperature(&sizes, tau).unwrap(), DrawRule::Sampled, share, [0.25; 4]);
    }
}
