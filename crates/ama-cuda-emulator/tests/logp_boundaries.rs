//! `logp.cu` at the boundary of each of its comparisons, and what its comments promise beyond being right within rounding.

mod common;

use ama_cuda_emulator::Element;
use common::logp::{Case, Layout, pick};
use common::naive::check;
use common::{IGNORED, Kernels, Logit, check_rounded, module, races};

/// `got` is `want` within `ulps` units of `f32` and half a unit of `D`.
#[track_caller]
fn assert_near<D: Logit>(got: D, want: f64, ulps: f64, what: &str) {
    let allowed = want.abs() * ulps * f64::from(f32::EPSILON) + D::rounding(want);
    let err = (f64::from(got.widen()) - want).abs();
    assert!(err <= allowed, "{what}: {} vs {want:e}, {err:e} > {allowed:e}", got.widen());
}

/// A target whose probability is `1 - p` for ever smaller `p`, at every place of a row: before, in and behind what is read and
/// written 16 bytes at a time, first and last of each. Its gradient is `g (1 - e^(x - lse))`, of which a subtraction in `f32`
/// leaves nothing; every other element's is `-g e^(x - lse)`, without the least admixture of the target's.
fn gradients_at_every_place<T: Logit, D: Logit>(module: &Kernels) {
    let vocab = if races() { 11 } else { 43 };
    // Exact in bf16.
    let (max, other) = (-16.0f32, -24.0f32);
    for (log_sum, layout) in [
        (1e-7f32, Layout { padding: 3, shift: 1 }),
        (1e-10, Layout { padding: 5, shift: 0 }),
        (3e-37, Layout { padding: 0, shift: 3 }),
        (0.0, Layout { padding: 5, shift: 2 }),
        (0.75, Layout { padding: 2, shift: 7 }),
    ]
    .into_iter()
    .take(if races() { 1 } else { 5 })
    {
        let mut case = Case::<T>::new(vocab, vocab, 1.0, layout);
        case.targets = (0..vocab as u32).collect();
        case.upstream = (0..vocab).map(|i| if i % 2 == 0 { 1.0 } else { -0.375 }).collect();
        case.logits.fill(T::narrow(other));
        (0..vocab).for_each(|i| case.logits[i * vocab + i] = T::narrow(max));
        let lse: Vec<f32> = (0..vocab).flat_map(|_| [max, log_sum]).collect();
        for (to, in_place) in [(layout, false), (Layout { padding: 1, shift: 5 }, false), (layout, true)] {
            let gradient: Vec<D> = if !in_place {
                case.backward(module, &lse, to, 1)
            } else if T::NAME == D::NAME {
                case.backward_in_place(module, &lse, 1).into_iter().map(|g| D::narrow(g.widen())).collect()
            } else {
                continue;
            };
            for (row, gradient) in gradient.chunks(vocab).enumerate() {
                let g = f64::from(case.upstream[row]);
                for (j, got) in gradient.iter().enumerate() {
                    let d = if j == row { 0.0 } else { f64::from(other - max) } - f64::from(log_sum);
                    let want = if j == row { -g * d.exp_m1() } else { -g * d.exp() };
                    let what = format!("{} to {}, ln sum {log_sum:e}, row {row}, {j}", T::NAME, D::NAME);
                    assert_near(*got, want, 16.0, &what);
                }
            }
        }
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn the_gradient_at_the_target_has_no_cancellation() {
    let module = module("logp.cu");
    gradients_at_every_place::<f32, f32>(&module);
    gradients_at_every_place::<u16, u16>(&module);
    gradients_at_every_place::<f32, u16>(&module);
}

/// Vocabularies around every width that a thread or a block of 32 takes at once: 16 bytes, one pass of the block, four passes
/// under way at once, and those twice.
fn sizes<T>() -> Vec<usize> {
    let width = 16 / size_of::<T>();
    let mut sizes: Vec<usize> = (1..=2 * width + 2).collect();
    for wides in if races() { vec![32] } else { vec![32, 96, 100, 128, 160, 224, 228, 256] } {
        sizes.extend([wides * width - 1, wides * width, wides * width + 1]);
    }
    sizes
}

/// Every element of a row counts once and none beyond it does, wherever the row begins and however its length sits.
fn every_size<T: Logit>(module: &Kernels) {
    for vocab in sizes::<T>() {
        for layout in [
            Layout { padding: 0, shift: 0 },
            Layout { padding: 4, shift: 1 },
            Layout { padding: 1, shift: 3 },
        ] {
            let mut case = Case::<T>::new(2, vocab, 1.0, layout);
            case.threads = 32;
            case.targets = vec![vocab as u32 - 1, vocab as u32 / 2];
            let expected = case.expected();
            for with_entropy in [false, true] {
                let forward = case.forward(module, with_entropy, 1);
                // Of 2052 elements one weighs 5e-4.
                check(&forward.logp, &expected.logp.0, &expected.logp.1, 2e-6);
                if let Some(entropy) = forward.entropy {
                    check(&entropy, &expected.entropy.0, &expected.entropy.1, 8e-6);
                }
                if !with_entropy {
                    let gradient = case.backward_in_place(module, &forward.lse, 1);
                    check_rounded(&gradient, &expected.gradient.0, &expected.gradient.1, 5e-7);
                }
            }
            // The same places, to be cleared: beside the logits, for theirs are there already.
            case.targets.fill(IGNORED);
            let cleared = case.backward::<T>(module, &[f32::NAN; 4], layout, 1);
            assert!(cleared.iter().all(|g| g.widen() == 0.0), "{vocab}: an ignored row is not all 0");
        }
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn sizes_around_every_width() {
    let module = module("logp.cu");
    every_size::<f32>(&module);
    every_size::<u16>(&module);
}

/// Differences of logits that overflow to infinity, between elements of one thread, of one warp and of several.
#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn the_widest_gap_between_logits() {
    let module = module("logp.cu");
    let (vocab, ln_2) = (if races() { 300 } else { 1030 }, std::f32::consts::LN_2);
    for threads in [32, 64] {
        for at in [0, 1, 4, 130, vocab - 1] {
            let mut case = Case::<f32>::new(2, vocab, 1.0, Layout { padding: 3, shift: 1 });
            case.threads = threads;
            case.logits.fill(-f32::MAX);
            let second = (at + vocab / 2) % vocab;
            for row in case.logits.chunks_mut(vocab) {
                (row[at], row[second]) = (f32::MAX, f32::MAX);
            }
            case.targets = vec![at as u32, second as u32];
            case.upstream = vec![2.0; 2];
            let forward = case.forward(&module, true, 1);
            let entropy = forward.entropy.unwrap_or_default();
            for (logp, entropy) in forward.logp.iter().zip(&entropy) {
                assert!((logp + ln_2).abs() <= 1e-6, "{at}: {logp}");
                assert!((entropy - ln_2).abs() <= 1e-6, "{at}: entropy {entropy}");
            }
            let gradient = case.backward_in_place(&module, &forward.lse, 1);
            for (row, gradient) in gradient.chunks(vocab).enumerate() {
                for (j, got) in gradient.iter().enumerate() {
                    let want = match j {
                        j if j == case.targets[row] as usize => 1.0,
                        j if j == at || j == second => -1.0,
                        _ => 0.0,
                    };
                    assert!((got - want).abs() <= 1e-6, "row {row}, {j}: {got} vs {want}");
                }
            }
        }
    }
}

/// Targets on both sides of the vocabulary's end and of the mark, and what such rows leave for the backward pass.
#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn targets_at_the_end_of_the_vocabulary() {
    let module = module("logp.cu");
    for vocab in [1, 8, 37] {
        let end = vocab as u32;
        let mut case = Case::<f32>::new(5, vocab, 1.0, Layout { padding: 2, shift: 1 });
        case.targets = vec![end - 1, end, end + 1, IGNORED - 1, IGNORED];
        case.upstream = vec![1.0; 5];
        let forward = case.forward(&module, true, 1);
        let entropy = forward.entropy.clone().unwrap_or_default();
        let gradient = case.backward::<f32>(&module, &forward.lse, case.layout, 1);
        for row in 0..5 {
            let (lse, entropy) = (&forward.lse[2 * row..2 * row + 2], entropy[row]);
            let all = [forward.logp[row], entropy, lse[0], lse[1]];
            let gradient = &gradient[row * vocab..(row + 1) * vocab];
            match row {
                0 => assert!(all.iter().chain(gradient).all(|x| x.is_finite()), "{all:?}"),
                4 => assert!(all.iter().chain(gradient).all(|x| *x == 0.0), "{all:?}"),
                _ => {
                    assert!(all.iter().chain(gradient).all(|x| x.is_nan()), "row {row}: {all:?}");
                    assert!(!all.iter().any(|x| x.is_poison()), "row {row}: an output is not written");
                }
            }
        }
    }
}

/// Only 0 stands for a row without gradient: not the least number, and NaN is not hidden.
#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn upstream_gradients_next_to_zero() {
    let module = module("logp.cu");
    let least = f32::from_bits(1);
    for vocab in [2, 40] {
        let mut case = Case::<f32>::new(5, vocab, 0.0, Layout { padding: 3, shift: 1 });
        case.targets = vec![0; 5];
        case.upstream = vec![0.0, -0.0, 8.0 * least, -f32::MIN_POSITIVE, f32::NAN];
        // Half of the probability at the target.
        let lse: Vec<f32> = (0..5).flat_map(|_| [0.0, std::f32::consts::LN_2]).collect();
        let gradient = case.backward::<f32>(&module, &lse, case.layout, 1);
        let at = |row: usize| &gradient[row * vocab..(row + 1) * vocab];
        assert!(at(0).iter().chain(at(1)).all(|g| *g == 0.0));
        assert_eq!((at(2)[0], at(2)[1]), (4.0 * least, -4.0 * least), "subnormal numbers count");
        assert!(at(3)[0] < 0.0 && at(3)[1] > 0.0, "{:?}", at(3));
        assert!(at(4).iter().all(|g| g.is_nan()), "{:?}", at(4));
    }
}

/// Blocks behind the last row read and write nothing.
#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn blocks_without_a_row_do_nothing() {
    let module = module("logp.cu");
    let mut case = Case::<f32>::new(3, 40, 4.0, Layout { padding: 3, shift: 1 });
    let alone = case.forward(&module, true, 1);
    case.surplus_blocks = 2;
    let forward = case.forward(&module, true, 1);
    assert_eq!((&forward.logp, &forward.lse), (&alone.logp, &alone.lse));
    let expected = case.expected();
    let gradient = case.backward_in_place(&module, &forward.lse, 1);
    check(&pick(&gradient, &expected.rows, 40), &expected.gradient.0, &expected.gradient.1, 1e-6);
}
