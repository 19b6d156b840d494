//! `preference.cu` as host C++ against `PreferenceLoss::evaluate`: every loss, excess and clipping.

mod common;

use ama_loss::{PairLogps, PreferenceLoss};
use common::preference::{Batch, KINDS, Mode};
use common::{module, races, seeds};

#[track_caller]
fn assert_close(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let same = g == w || (g.is_nan() && w.is_nan());
        assert!(same || (g - w).abs() <= 1e-12 * w.abs().max(1.0), "{what} of pair {i}: {g} vs {w}");
    }
}

/// Moves one log-probability of a pair.
type Shift = fn(&mut PairLogps, f64);

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn every_loss_is_that_of_the_processor() {
    let module = module("preference.cu");
    let names = ["loss", "margin", "chosen reward", "rejected reward", "excess", "d chosen", "d rejected"];
    for kind in KINDS {
        for (beta, sft_weight) in [(0.1, 0.0), (0.5, 0.7)] {
            let loss = PreferenceLoss::new(kind, beta, sft_weight).expect("legal hyper-parameters");
            for (n, weighted) in [(31, true), (1, false), (129, false), (1025, true)] {
                if races() && n != 31 {
                    continue;
                }
                let batch = Batch::new(n, weighted);
                for (mode, clip) in [
                    (Mode::Raw, false),
                    (Mode::Unclipped, false),
                    (Mode::Clipped, false),
                    (Mode::Clipped, true),
                ] {
                    let first = batch.launch(&module, &loss, mode, clip, 0);
                    for ((got, want), name) in first.iter().zip(batch.expected(&loss, mode, clip)).zip(names)
                    {
                        assert_close(got, &want, name);
                    }
                    for seed in seeds().skip(1) {
                        let again = batch.launch(&module, &loss, mode, clip, seed);
                        let bits = |columns: &[Vec<f64>]| -> Vec<u64> {
                            columns.iter().flatten().map(|x| x.to_bits()).collect()
                        };
                        assert!(bits(&again) == bits(&first), "another order of threads");
                    }
                }
            }
        }
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn gradients_are_finite_differences_of_the_loss() {
    let module = module("preference.cu");
    let step = 1e-5;
    let pairs: Vec<PairLogps> = Batch::new(6, false).pairs;
    for kind in KINDS {
        let loss = PreferenceLoss::new(kind, 0.1, 0.3).expect("legal hyper-parameters");
        let run = |shift: Shift, by: f64| {
            let mut moved = pairs.clone();
            moved.iter_mut().for_each(|pair| shift(pair, by));
            let batch = Batch { cached: vec![0.0; moved.len()], pairs: moved, weight: None };
            batch.launch(&module, &loss, Mode::Raw, false, 1)
        };
        let here = run(|_, _| {}, 0.0);
        let moves: [(usize, Shift); 2] =
            [(5, |pair, by| pair.chosen += by), (6, |pair, by| pair.rejected += by)];
        for (output, shift) in moves {
            let (up, down) = (run(shift, step), run(shift, -step));
            for (i, d) in here[output].iter().enumerate() {
                let slope = (up[0][i] - down[0][i]) / (2.0 * step);
                assert!(
                    (slope - d).abs() <= 1e-6 * slope.abs().max(1.0),
                    "{kind:?}, pair {i}: {d} vs {slope}"
                );
            }
        }
    }
}
