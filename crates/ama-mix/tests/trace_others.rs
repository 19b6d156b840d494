//! Three steps of the mixers of other papers and of the variants of ours, worked by hand. Irrational values were worked
//! out with Python's `decimal` to 40 digits from the equations of the sources (which those are, and where they stand, is
//! in each mixer's "Compared with"), not from this code.

use ama_mix::{
    AmaR, AmaS, AmaSIx, Averaged, DoReMi, DrawRule, ExcessScale, Famo, Mixer, MixerSpec, Odm, TaskExcess,
    Term,
};
use std::f64::consts::LN_2;

const NATS: ExcessScale = ExcessScale::Fixed(1.0);

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

/// k = 2, c = 1/2, eta = ln 2, M = 1; alpha = alpha'/2 + 1/4, and the next step multiplies alpha, not alpha'.
///
/// | step | e    | unnormalised | alpha'         | alpha            |
/// |------|------|--------------|----------------|------------------|
/// | 1    | 1, 0 | 2, 1         | 2/3, 1/3       | 7/12, 5/12       |
/// | 2    | 0, 1 | 7, 10        | 7/17, 10/17    | 31/68, 37/68     |
/// | 3    | -, 2 | 31, 148      | 31/179, 148/179| 241/716, 475/716 |
///
/// The result is the mean, (7/12 + 31/68 + 241/716)/3 = 50239/109548.
#[test]
fn doremi() {
    let mut mixer = DoReMi::new(2, 0.5, LN_2, NATS).unwrap();
    assert!(mixer.loss_weight_depends_on_batch());
    assert_eq!(mixer.plan().draw, DrawRule::Stratified);
    let mean = 50239.0 / 109_548.0;
    for (rows, share) in [
        ([(2, 1.0), (2, 0.0)], 7.0 / 12.0),
        ([(2, 0.0), (2, 1.0)], 31.0 / 68.0),
        ([(0, 9.0), (4, 2.0)], 241.0 / 716.0),
    ] {
        mixer.update(&seen(&rows)).unwrap();
        close(mixer.plan().loss_weight, &[share, 1.0 - share]);
        close(mixer.plan().sampling, &[0.5, 0.5]);
    }
    close(&mixer.averaged_alpha(), &[mean, 1.0 - mean]);
}

/// t = 2 ln 2: weights are proportional to 4^l.
///
/// | step | l           | unnormalised | alpha         |
/// |------|-------------|--------------|---------------|
/// | 1    | 1, 1/2, 0   | 4, 2, 1      | 4/7, 2/7, 1/7 |
/// | 2    | 1/2, -, 1   | 2, 2, 4      | 1/4, 1/4, 1/2 |
/// | 3    | 0, 0, 0     | 1, 1, 1      | 1/3, 1/3, 1/3 |
///
/// In step 2 task 1 is not in the batch and counts with the 1/2 of step 1. A tilt of -ln 2 prefers the small losses.
#[test]
fn term() {
    let mut mixer = Term::new(3, 2.0 * LN_2).unwrap();
    assert!(mixer.loss_weight_depends_on_batch());
    close(mixer.alpha(), &[1.0 / 3.0; 3]);
    mixer.update(&seen(&[(1, 1.0), (2, 0.5), (1, 0.0)])).unwrap();
    close(mixer.plan().loss_weight, &[4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0]);
    // A pair of task 1, of which the batch has two, weighs half of 2/7.
    close(&mixer.plan().pair_weights(&[0, 1, 1, 2]).unwrap(), &[4.0 / 7.0, 1.0 / 7.0, 1.0 / 7.0, 1.0 / 7.0]);
    mixer.update(&seen(&[(1, 0.5), (0, 1e9), (1, 1.0)])).unwrap();
    close(mixer.alpha(), &[0.25, 0.25, 0.5]);
    mixer.update(&seen(&[(1, 0.0); 3])).unwrap();
    close(mixer.alpha(), &[1.0 / 3.0; 3]);

    let mut negative = Term::new(2, -LN_2).unwrap();
    negative.update(&seen(&[(1, 1.0), (1, 0.0)])).unwrap();
    close(negative.alpha(), &[1.0 / 3.0, 2.0 / 3.0]);
}

/// k = 2, beta = 2, gamma = 1/4. Logits and falls in units of ln 2; d is the fall, m = sum z d its mean.
///
/// | step | l        | d    | z          | m   | z (d - m)  | x after            | new z            | alpha: z/l      |
/// |------|----------|------|------------|-----|------------|--------------------|------------------|-----------------|
/// | 1    | 1, 2     | 0, 0 | 1/2, 1/2   | 0   | 0, 0       | 0, 0               | 1/2, 1/2         | 2/3, 1/3        |
/// | 2    | 1/2, 2   | 1, 0 | 1/2, 1/2   | 1/2 | 1/4, -1/4  | -1/2, 1/2          | 1/3, 2/3         | 2/3, 1/3        |
/// | 3    | 1/2, 1/2 | 0, 2 | 1/3, 2/3   | 4/3 | -4/9, 4/9  | -1/4 + 8/9, -23/36 | 2^(23/18) : 1    | 2^(23/18) : 1   |
///
/// The decay of step 3 is beta gamma x = x/2. Its share is 1/(1 + 2^(-23/18)).
#[test]
fn famo() {
    let mut mixer = Famo::new(2, 2.0, 0.25).unwrap();
    assert!(mixer.loss_weight_depends_on_batch());
    mixer.update(&seen(&[(3, 1.0), (3, 2.0)])).unwrap();
    close(mixer.alpha(), &[2.0 / 3.0, 1.0 / 3.0]);
    mixer.update(&seen(&[(3, 0.5), (3, 2.0)])).unwrap();
    close(mixer.plan().loss_weight, &[2.0 / 3.0, 1.0 / 3.0]);
    mixer.update(&seen(&[(3, 0.5), (3, 0.5)])).unwrap();
    let share = 0.707_999_539_520_853_9;
    close(mixer.alpha(), &[share, 1.0 - share]);
}

/// k = 2, a = 1/2, M = 1, B = 2; E_0 = E_1 = 1/2, E_2 = sqrt(ln 2 / 4), E_3 = sqrt(ln 2 / 6), E_4 = sqrt(ln 2 / 8).
///
/// | step | alpha          | drawn | l     | estimate       | r after               |
/// |------|----------------|-------|-------|----------------|-----------------------|
/// | 1    | 1/2, 1/2       | 1, 1  | 1, 3  | 1, 3           | 1/2, 3/2              |
/// | 2    | a, 1-a         | 2, 0  | 1, -  | 1/a, -         | 1/4 + 1/(2a), 3/2     |
/// | 3    | b, 1-b         | 1, 1  | 2, .5 | 1/b, 1/(4(1-b))| halves + half of each |
#[test]
fn odm() {
    let mut mixer = Odm::new(2, 0.5, NATS).unwrap();
    assert!(!mixer.loss_weight_depends_on_batch());
    assert_eq!(mixer.plan().draw, DrawRule::Sampled);
    close(mixer.plan().sampling, &[0.5, 0.5]);
    for (rows, share) in [
        ([(1, 1.0), (1, 3.0)], 0.479_494_749_669_537_2),
        ([(2, 1.0), (0, f64::NAN)], 0.493_098_089_873_238_4),
        ([(1, 2.0), (1, 0.5)], 0.523_100_428_259_861_7),
    ] {
        mixer.update(&seen(&rows)).unwrap();
        close(mixer.plan().sampling, &[share, 1.0 - share]);
        assert_eq!(mixer.plan().pair_weights(&[0, 1]).unwrap(), [0.5; 2]);
    }
    close(
        &mixer.averaged_alpha(),
        &[(0.5 + 0.479_494_749_669_537_2 + 0.493_098_089_873_238_4) / 3.0, 0.509_135_720_152_408_1],
    );
}

/// One pair a step, as the sources have it: the smoothed reward of the task drawn is (1-a) l/alpha, nothing is divided.
/// k = 2, a = 9/10. Step 1 draws task 1 with l = 2: r = (0, 1/10 2/(1/2)) = (0, 2/5), so that the weight of task 0 is
/// p = (1 - 2 E_2)/(1 + exp(E_1 2/5)) + E_2 with E_1 = 1/2, E_2 = sqrt(ln 2 / 4). Step 2 draws task 0 with l = 1:
/// r = (1/(10 p), 2/5), and step 3 has (1 - 2 E_3)/(1 + exp(E_2 (2/5 - 1/(10 p)))) + E_3, E_3 = sqrt(ln 2 / 6).
#[test]
fn odm_with_one_pair_a_step() {
    let mut mixer = Odm::new(2, 0.9, NATS).unwrap();
    mixer.update(&seen(&[(0, 0.0), (1, 2.0)])).unwrap();
    close(mixer.plan().sampling, &[0.491_655_526_942_445_9, 0.508_344_473_057_554_1]);
    mixer.update(&seen(&[(1, 1.0), (0, 0.0)])).unwrap();
    close(mixer.plan().sampling, &[0.493_451_717_674_870_6, 0.506_548_282_325_129_4]);
}

/// k = 2, gamma = 1/2, eta = 8 ln 2, M = 2, B = 4: alpha is multiplied by 2^(-8 l).
///
/// | step | alpha    | drawn | e    | l                                     | gain in log2    | alpha after        |
/// |------|----------|-------|------|---------------------------------------|-----------------|--------------------|
/// | 1    | 1/2, 1/2 | 1, 3  | 1, 2 | (1/4)(1/2)/1 = 1/8, 0                 | -1, 0           | 1/3, 2/3           |
/// | 2    | 1/3, 2/3 | 2, 2  | 2, 1 | 0, (1/2)(1/2)/(2/3 + 1/2) = 3/14      | 0, -12/7        | 2^(5/7) : 1        |
/// | 3    | a, 1-a   | 4, 0  | 4, - | (1 - 4/2)/(a + 1/2) = -1/(a + 1/2), - | 8/(a + 1/2), 0  |                    |
#[test]
fn ama_s_ix() {
    let mut mixer = AmaSIx::new(2, 0.5, 8.0 * LN_2, ExcessScale::Fixed(2.0)).unwrap();
    assert!(!mixer.loss_weight_depends_on_batch());
    assert_eq!(mixer.plan().draw, DrawRule::Sampled);
    for (rows, share) in [
        ([(1, 1.0), (3, 2.0)], 1.0 / 3.0),
        ([(2, 2.0), (2, 1.0)], 0.621_308_330_701_773_7),
        ([(4, 4.0), (0, 1.0)], 0.995_680_899_169_556_4),
    ] {
        mixer.update(&seen(&rows)).unwrap();
        close(mixer.plan().sampling, &[share, 1.0 - share]);
        close(mixer.plan().loss_weight, &[1.0, 1.0]);
    }
}

/// One pair a step, as the sources have it: only the arm drawn has a loss, (1 - e)/(p + gamma). gamma = 1/2, eta = 8 ln 2,
/// M = 1. Task 1 with e = 1/2: (1/2)/(1/2 + 1/2) = 1/2, so 1 : 2^-4, p = 16/17. Task 0 with e = 0: 1/(16/17 + 1/2) =
/// 34/49, so 2^(-272/49) : 2^(-196/49), a share of 1/(1 + 2^(76/49)).
#[test]
fn ama_s_ix_with_one_pair_a_step() {
    let mut mixer = AmaSIx::new(2, 0.5, 8.0 * LN_2, NATS).unwrap();
    mixer.update(&seen(&[(0, 0.0), (1, 0.5)])).unwrap();
    close(mixer.plan().sampling, &[16.0 / 17.0, 1.0 / 17.0]);
    mixer.update(&seen(&[(1, 0.0), (0, 0.0)])).unwrap();
    let share = 1.0 / (1.0 + (76.0 / 49.0 * LN_2).exp());
    close(mixer.plan().sampling, &[share, 1.0 - share]);
}

/// The traces of `trace.rs`, stepped with averages. AMA-R's alpha is (2/7, 1/7, 4/7), (2/5, 2/5, 1/5): the model steps
/// with the first, then with their mean (12/35, 19/70, 27/70). AMA-S draws from (.5, .5), (.35, .65), (.5, .5); in the
/// second step the mean of those before is (.5, .5), in the third (.425, .575), and the factors are mean over drawn.
#[test]
fn averaged() {
    let mut mixer = Averaged::new(Box::new(AmaR::new(3, LN_2, NATS).unwrap()));
    assert!(mixer.loss_weight_depends_on_batch());
    mixer.update(&seen(&[(2, 1.0), (2, 0.0), (2, 2.0)])).unwrap();
    close(mixer.plan().loss_weight, &[2.0 / 7.0, 1.0 / 7.0, 4.0 / 7.0]);
    mixer.update(&seen(&[(2, 2.0), (2, 3.0), (2, 0.0)])).unwrap();
    close(mixer.plan().loss_weight, &[12.0 / 35.0, 19.0 / 70.0, 27.0 / 70.0]);
    close(mixer.alpha(), &[12.0 / 35.0, 19.0 / 70.0, 27.0 / 70.0]);

    let mut mixer = Averaged::new(Box::new(AmaS::new(2, 0.5, LN_2, NATS).unwrap()));
    assert!(!mixer.loss_weight_depends_on_batch());
    assert_eq!((mixer.name(), mixer.excess_scale()), ("ama-s", Some(1.0)));
    close(mixer.plan().loss_weight, &[1.0, 1.0]);
    mixer.update(&seen(&[(1, 2.0), (3, 2.0)])).unwrap();
    close(mixer.plan().sampling, &[0.35, 0.65]);
    close(mixer.plan().loss_weight, &[0.5 / 0.35, 0.5 / 0.65]);
    mixer.update(&seen(&[(4, 0.7), (0, 0.0)])).unwrap();
    close(mixer.plan().sampling, &[0.5, 0.5]);
    close(mixer.plan().loss_weight, &[0.85, 1.15]);
    // Expected factor of each task, drawn or not, is the mean: sampling times weight.
    close(mixer.alpha(), &[0.425, 0.575]);
    close(&mixer.averaged_alpha(), &[0.425, 0.575]);
}

/// One step of AMA-S-IX from (1/2, 1/2) takes task 0 to exp(-eta): the ratio 1/2 / exp(-eta) is above every `f64` where
/// that is subnormal (eta = 735) and has no value where it is 0 (eta = 800), which nothing is drawn from.
#[test]
fn averages_of_what_is_hardly_drawn_are_finite() {
    for (eta, factor) in [(700.0, 700f64.exp() / 2.0), (735.0, f64::MAX), (800.0, 0.0)] {
        let mut mixer = Averaged::new(Box::new(AmaSIx::new(2, 0.5, eta, NATS).unwrap()));
        mixer.update(&seen(&[(1, 0.0), (0, 0.0)])).unwrap();
        let got = mixer.plan().loss_weight;
        assert!((got[0] - factor).abs() <= 1e-12 * factor, "{eta}: {} vs {factor}", got[0]);
        assert_eq!(got[1], 0.5);
    }
}

/// Averages of a weight that underflowed are not lost with it.
#[test]
fn averages_outlive_underflow() {
    let spec = MixerSpec::Averaged(Box::new(MixerSpec::AmaR { eta: Some(1e4), scale: NATS }));
    let mut mixer = spec.build(&[5, 5], 10).unwrap();
    mixer.update(&seen(&[(1, 1.0), (1, 0.0)])).unwrap();
    mixer.update(&seen(&[(1, 0.0), (1, 2.0)])).unwrap();
    close(mixer.plan().loss_weight, &[0.5, 0.5]);
}
