//! A mixer in a plain loop, without any framework: `cargo run -p ama-mix --example toy_game`.
//!
//! The "model" is one number x in [0, 1]; task 0 wants x = 0, task 1 wants x = 1 and is twice as steep, and task
//! 0 has ninety times as many pairs. Pooled training listens to the many. AMA-R and AMA-S find the saddle point,
//! where both tasks are equally far above their specialists: x = 2(1 - x), so x = 2/3, with alpha = (2/3, 1/3)
//! (the slopes cancel: alpha_0 * 1 = alpha_1 * 2).

#![allow(clippy::print_stdout, reason = "an example shows what it finds")]

use ama_mix::{
    AmaR, DrawRule, ExcessMode, ExcessScale, GradientClip, MixError, Mixer, MixerSpec, TaskExcess,
    pair_excess,
};

const SIZES: [usize; 2] = [900, 10];
const STEPS: u64 = 4000;
const BATCH: usize = 8;

/// Loss of a pair of `task`, and its slope in x. The specialists reach 0.
fn loss(task: usize, x: f64) -> (f64, f64) {
    if task == 0 { (x, 1.0) } else { (2.0 * (1.0 - x), -2.0) }
}

/// The caller owns the random numbers; this generator is splitmix64.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Step 1: the tasks of the next batch. (A trainer would take the next pair of each task's epoch.)
fn draw(mixer: &dyn Mixer, random: &mut Random) -> Vec<usize> {
    let plan = mixer.plan();
    match plan.draw {
        DrawRule::Stratified => (0..BATCH).map(|pair| pair % SIZES.len()).collect(),
        DrawRule::Sampled | DrawRule::Union => {
            (0..BATCH).map(|_| usize::from(random.uniform() >= plan.sampling[0])).collect()
        }
    }
}

/// Trains x and returns its mean over the run, with the mean alpha.
fn train(spec: &MixerSpec) -> Result<(f64, Vec<f64>), MixError> {
    let mut mixer = spec.build(&SIZES, STEPS)?;
    let (mut x, mut sum, mut random) = (0.5, 0.0, Random(7));
    for _ in 0..STEPS {
        sum += x;
        let tasks = draw(&*mixer, &mut random);

        // Steps 2 and 3: excess of the pairs; the mixer learns from it.
        let excess: Vec<_> = tasks
            .iter()
            .map(|&task| pair_excess(ExcessMode::Clipped, GradientClip::Pair, loss(task, x).0, 0.0))
            .collect();
        let values: Vec<f64> = excess.iter().map(|excess| excess.value_nats).collect();
        mixer.update(&TaskExcess::collect(SIZES.len(), &tasks, &values)?)?;

        // Step 4: descend on the weighted excess of the active pairs.
        let weights = mixer.plan().pair_weights(&tasks)?;
        let gradient: f64 = (0..tasks.len())
            .filter(|&pair| excess[pair].active)
            .map(|pair| weights[pair] * loss(tasks[pair], x).1)
            .sum();
        x = f64::clamp(x - gradient / (STEPS as f64).sqrt(), 0.0, 1.0);
    }
    Ok((sum / STEPS as f64, mixer.averaged_alpha()))
}

fn main() -> Result<(), MixError> {
    println!("{:<16} {:>6} {:>7} {:>7} {:>7} {:>7}", "mixer", "x", "task 0", "task 1", "alpha 0", "alpha 1");
    // A game of 4000 steps can afford the steps of the theory.
    let (scale, eta) = (ExcessScale::Fixed(2.0), Some(AmaR::hedge_eta(SIZES.len(), STEPS)));
    let specs =
        [MixerSpec::Pooled, MixerSpec::AmaR { eta, scale }, MixerSpec::AmaS { c: None, eta: None, scale }];
    for spec in &specs {
        let (x, alpha) = train(spec)?;
        let losses = [loss(0, x).0, loss(1, x).0];
        println!(
            "{spec:<16} {x:>6.3} {:>7.3} {:>7.3} {:>7.3} {:>7.3}",
            losses[0], losses[1], alpha[0], alpha[1]
        );
        match spec {
            MixerSpec::Pooled => assert!(losses[1] > 1.5, "the scarce task is given up"),
            _ => {
                assert!((x - 2.0 / 3.0).abs() < 0.05, "{spec}: x {x}");
                assert!((alpha[0] - 2.0 / 3.0).abs() < 0.05, "{spec}: alpha {alpha:?}");
            }
        }
    }
    Ok(())
}
