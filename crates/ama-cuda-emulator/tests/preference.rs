//! `preference.cu` as host C++ against `PreferenceLoss::evaluate`: every loss, excess and clipping.

mod common;

use ama_loss::{PairLogps, PreferenceKind, PreferenceLoss};
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

/// A pair that is exactly at its specialist is clipped, value and gradient; one that is the least bit above is not. The
/// gradient stays where only the weights are to be clipped, and where nothing is.
#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn a_pair_exactly_at_its_specialist_is_clipped() {
    let module = module("preference.cu");
    for kind in KINDS {
        for sft_weight in [0.0, 0.3] {
            let loss = PreferenceLoss::new(kind, 0.1, sft_weight).expect("legal hyper-parameters");
            let mut batch = Batch::new(31, false);
            // Those with finite losses.
            batch.pairs.drain(5..7);
            batch.cached = vec![0.0; batch.pairs.len()];
            let raw = batch.launch(&module, &loss, Mode::Raw, false, 1);
            // As the kernel itself computes them, to the bit.
            let (losses, d_chosen, d_rejected) = (&raw[0], &raw[5], &raw[6]);
            let steps: [fn(f64) -> f64; 3] = [f64::next_down, |x| x, f64::next_up];
            for (mode, clip) in [(Mode::Unclipped, true), (Mode::Clipped, false), (Mode::Clipped, true)] {
                for (above, step) in [1, 0, -1].into_iter().zip(steps) {
                    batch.cached = losses.iter().map(|loss| step(*loss)).collect();
                    let out = batch.launch(&module, &loss, mode, clip, 1);
                    for (i, excess) in out[4].iter().enumerate() {
                        let what = format!("{kind:?}, {above}, pair {i}: {excess:e}");
                        let clipped = mode == Mode::Clipped && above <= 0;
                        let want = if clipped { 0.0 } else { losses[i] - batch.cached[i] };
                        assert_eq!(*excess, want, "{what}");
                        let kept = !(clipped && clip);
                        let (d_c, d_r) = if kept { (d_chosen[i], d_rejected[i]) } else { (0.0, 0.0) };
                        assert_eq!((out[5][i], out[6][i]), (d_c, d_r), "{what}");
                    }
                }
            }
        }
    }
}

/// One pair per line: what the four log-probabilities are, and everything else ordinary.
fn pairs_of(logps: &[[f64; 4]]) -> Vec<PairLogps> {
    let pair = |[chosen, rejected, ref_chosen, ref_rejected]: &[f64; 4]| PairLogps {
        chosen: *chosen,
        rejected: *rejected,
        ref_chosen: *ref_chosen,
        ref_rejected: *ref_rejected,
        chosen_tokens: 4,
        rejected_tokens: 2,
    };
    logps.iter().map(pair).collect()
}

/// The hinge has no slope at a margin of exactly 1, and all of it just below.
#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn the_hinge_at_a_margin_of_one() {
    let module = module("preference.cu");
    let loss = PreferenceLoss::new(PreferenceKind::Hinge, 0.5, 0.0).expect("legal hyper-parameters");
    // The margins are 1, and its neighbours: 0.5 times a difference is exact.
    let at = [2.0, 2f64.next_down(), 2f64.next_up()].map(|gap| [gap, 0.0, 0.0, 0.0]);
    let batch = Batch { pairs: pairs_of(&at), cached: vec![0.0; 3], weight: None };
    let out = batch.launch(&module, &loss, Mode::Raw, false, 1);
    assert_eq!(out[0], [0.0, f64::EPSILON / 2.0, 0.0]);
    assert_eq!(out[1], [1.0, 1f64.next_down(), 1f64.next_up()]);
    assert_eq!(out[5], [0.0, -0.5, 0.0]);
    assert_eq!(out[6], [0.0, 0.5, 0.0]);
}

/// Smoothing of 0, an SFT term of weight 0 and pairs of weight 0 bring nothing in from infinite terms, and NaN is not taken for
/// a pair at its specialist.
#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn nothing_comes_in_from_terms_that_are_off_and_nan_is_kept() {
    const INF: f64 = f64::INFINITY;
    let module = module("preference.cu");
    let logps = [
        [-INF, -20.0, -10.0, -20.0],
        [-10.0, -INF, -10.0, -20.0],
        [-10.0, -20.0, -INF, -20.0],
        [-10.0, -20.0, -10.0, -INF],
        [f64::NAN, -20.0, -10.0, -20.0],
        [-10.0, -20.0, -10.0, f64::NAN],
        [0.0, 0.0, 0.0, 0.0],
        [-10.0, -20.0, -10.5, -20.0],
    ];
    for kind in KINDS {
        for sft_weight in [0.0, 0.5] {
            let loss = PreferenceLoss::new(kind, 0.25, sft_weight).expect("legal hyper-parameters");
            for (cached, weight) in [(0.2, -1.5), (0.2, 0.0), (INF, 2.0), (-INF, 2.0), (f64::NAN, 2.0)] {
                let batch = Batch {
                    pairs: pairs_of(&logps),
                    cached: vec![cached; logps.len()],
                    weight: Some(vec![weight; logps.len()]),
                };
                for (mode, clip) in [
                    (Mode::Raw, true),
                    (Mode::Unclipped, true),
                    (Mode::Clipped, false),
                    (Mode::Clipped, true),
                ] {
                    let out = batch.launch(&module, &loss, mode, clip, 1);
                    for (column, want) in batch.expected(&loss, mode, clip).iter().enumerate() {
                        assert_close(&out[column], want, &format!("{kind:?}, {cached}, output {column}"));
                    }
                    if weight == 0.0 {
                        assert!(out[5].iter().chain(&out[6]).all(|d| *d == 0.0), "{kind:?}: weight 0");
                    }
                    if cached.is_nan() && mode != Mode::Raw {
                        assert!(out[4].iter().all(|excess| excess.is_nan()), "{kind:?}: {:?}", out[4]);
                        // The last pair's own loss is fine, and so is its gradient.
                        assert!(out[5][7] != 0.0 || kind == PreferenceKind::Hinge, "{kind:?}");
                    }
                }
            }
        }
    }
}
