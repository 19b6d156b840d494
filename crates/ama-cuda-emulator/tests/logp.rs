//! `logp.cu` as host C++: log-probability, entropy and gradient against `f64`, in `f32` and bf16.

mod common;

use common::logp::{Case, Layout, pick};
use common::naive::check;
use common::{IGNORED, Kernels, Logit, assert_same_bits, check_rounded, module, races, seeds};

/// Vocabularies; with the block sizes that follow from them, every path through the loops over a row.
const SIZES: [usize; 4] = [1, 31, 1025, 4099];

/// How rows lie: back to back (odd sizes alone misalign every other row), padded, shifted, both.
const LAYOUTS: [Layout; 4] = [
    Layout { padding: 0, shift: 0 },
    Layout { padding: 3, shift: 0 },
    Layout { padding: 7, shift: 1 },
    Layout { padding: 16, shift: 3 },
];

/// Every vocabulary in every layout.
fn shapes() -> impl Iterator<Item = (usize, Layout)> {
    let (sizes, layouts) = if races() { (&SIZES[..3], &LAYOUTS[2..3]) } else { (&SIZES[..], &LAYOUTS[..]) };
    sizes.iter().flat_map(|vocab| layouts.iter().map(|layout| (*vocab, *layout)))
}

/// Rows of a case: the race detector follows a few thousand threads.
fn rows_for(vocab: usize) -> usize {
    if races() {
        3
    } else if vocab < 100 {
        31
    } else {
        6
    }
}

/// Rounding of two exponentials and a logarithm, of sums over a row, and of the order they are made in.
fn atol(scale: f32) -> f64 {
    1e-6 * f64::from(scale.max(1.0))
}

fn forward_is_right<T: Logit>(module: &Kernels, scale: f32) {
    for (vocab, layout) in shapes() {
        let case = Case::<T>::new(rows_for(vocab), vocab, scale, layout);
        let expected = case.expected();
        for with_entropy in [false, true] {
            let first = case.forward(module, with_entropy, 0);
            check(&pick(&first.logp, &expected.rows, 1), &expected.logp.0, &expected.logp.1, atol(scale));
            for (row, logp) in first.logp.iter().enumerate().filter(|(row, _)| case.targets[*row] == IGNORED)
            {
                assert_eq!(*logp, 0.0, "row {row} is ignored");
            }
            if let Some(entropy) = &first.entropy {
                let got = pick(entropy, &expected.rows, 1);
                check(&got, &expected.entropy.0, &expected.entropy.1, 4.0 * atol(scale));
            }
            for seed in seeds().skip(1) {
                let again = case.forward(module, with_entropy, seed);
                assert_same_bits(&again.logp, &first.logp, "logp in another order");
                assert_same_bits(&again.lse, &first.lse, "lse in another order");
                if let (Some(a), Some(b)) = (&again.entropy, &first.entropy) {
                    assert_same_bits(a, b, "entropy in another order");
                }
            }
        }
    }
}

fn backward_is_right<T: Logit, D: Logit>(module: &Kernels, scale: f32) {
    for (vocab, layout) in shapes() {
        let case = Case::<T>::new(rows_for(vocab), vocab, scale, layout);
        let expected = case.expected();
        let lse = case.forward(module, false, 0).lse;
        for to in [layout, Layout { padding: 1, shift: 0 }] {
            let first = case.backward::<D>(module, &lse, to, 0);
            let (naive, truth) = &expected.gradient;
            check_rounded(&pick(&first, &expected.rows, vocab), naive, truth, 1e-6);
            for (row, gradient) in first.chunks(vocab).enumerate() {
                if case.targets[row] == IGNORED || case.upstream[row] == 0.0 {
                    assert!(gradient.iter().all(|g| g.widen() == 0.0), "row {row} has no gradient");
                }
            }
            for seed in seeds().skip(1) {
                assert!(case.backward::<D>(module, &lse, to, seed) == first, "gradient in another order");
            }
        }
        let first = case.backward::<T>(module, &lse, layout, 0);
        for seed in seeds() {
            assert!(case.backward_in_place(module, &lse, seed) == first, "gradient over the logits");
        }
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn forward_f32() {
    let module = module("logp.cu");
    for scale in [1.0, 30.0] {
        forward_is_right::<f32>(&module, scale);
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn forward_bf16() {
    let module = module("logp.cu");
    for scale in [1.0, 30.0] {
        forward_is_right::<u16>(&module, scale);
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn backward_f32() {
    backward_is_right::<f32, f32>(&module("logp.cu"), 8.0);
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn backward_bf16() {
    backward_is_right::<u16, u16>(&module("logp.cu"), 8.0);
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn backward_f32_to_bf16() {
    backward_is_right::<f32, u16>(&module("logp.cu"), 8.0);
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn every_block_size_gives_the_same_to_rounding() {
    let module = module("logp.cu");
    let mut case = Case::<f32>::new(3, 4099, 8.0, Layout { padding: 2, shift: 1 });
    let expected = case.expected();
    for threads in [32, 64, 96, 512].into_iter().filter(|n| !races() || *n <= 96) {
        case.threads = threads;
        let forward = case.forward(&module, true, 1);
        check(&pick(&forward.logp, &expected.rows, 1), &expected.logp.0, &expected.logp.1, atol(8.0));
        let gradient = case.backward_in_place(&module, &forward.lse, 1);
        check(&pick(&gradient, &expected.rows, case.vocab), &expected.gradient.0, &expected.gradient.1, 1e-6);
    }
}

/// What a model in trouble puts out: every kind of row that must give NaN does, and its neighbours do not notice.
fn hostile_rows<T: Logit>(module: &Kernels) {
    for vocab in SIZES {
        let quiet = Case::<T>::new(9, vocab, 4.0, Layout { padding: 5, shift: 1 });
        let mut case = quiet.clone();
        case.targets = (0..9).map(|i| (i * 3 % vocab) as u32).collect();
        case.upstream = vec![0.5; 9];
        let spoiled = [1, 3, 5, 7];
        for (at, row) in spoiled.into_iter().enumerate() {
            let (values, place) = (&mut case.logits[row * vocab..(row + 1) * vocab], vocab * 2 / 3);
            match at {
                0 => values[place] = T::narrow(f32::NAN),
                1 => values[place] = T::narrow(f32::INFINITY),
                2 => values.fill(T::narrow(f32::NEG_INFINITY)),
                _ => case.targets[row] = vocab as u32,
            }
        }
        let mut healthy = case.clone();
        for row in spoiled {
            healthy.targets[row] = IGNORED;
        }
        let expected = healthy.expected();
        for seed in seeds() {
            let forward = case.forward(module, true, seed);
            let entropy = forward.entropy.unwrap_or_default();
            let gradient = case.backward_in_place(module, &forward.lse, seed);
            for row in spoiled {
                assert!(forward.logp[row].is_nan() && entropy[row].is_nan(), "row {row} of {vocab}: not NaN");
                assert!(
                    gradient[row * vocab..(row + 1) * vocab].iter().all(|g| g.widen().is_nan()),
                    "row {row}"
                );
            }
            check(&pick(&forward.logp, &expected.rows, 1), &expected.logp.0, &expected.logp.1, atol(4.0));
            check(
                &pick(&entropy, &expected.rows, 1),
                &expected.entropy.0,
                &expected.entropy.1,
                4.0 * atol(4.0),
            );
            let got = pick(&gradient, &expected.rows, vocab);
            check_rounded(&got, &expected.gradient.0, &expected.gradient.1, 1e-6);
        }
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn rows_in_trouble_keep_to_themselves() {
    let module = module("logp.cu");
    hostile_rows::<f32>(&module);
    hostile_rows::<u16>(&module);
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn ignored_rows_read_nothing() {
    let module = module("logp.cu");
    for vocab in SIZES {
        let mut case = Case::<f32>::new(4, vocab, 1.0, Layout::default());
        case.logits.fill(f32::NAN);
        case.targets.fill(IGNORED);
        let forward = case.forward(&module, true, 1);
        let zeros = vec![0.0; 4];
        assert_eq!((&forward.logp, forward.entropy.as_ref()), (&zeros, Some(&zeros)));
        assert!(case.backward_in_place(&module, &forward.lse, 1).iter().all(|g| *g == 0.0));
        // The same for rows whose log-probability nobody wants a gradient of.
        case.targets.fill(0);
        case.upstream.fill(0.0);
        assert!(case.backward_in_place(&module, &[f32::NAN; 8], 1).iter().all(|g| *g == 0.0));
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn tokens_of_probability_zero_and_nearly_one() {
    let module = module("logp.cu");
    for vocab in [31, 1025] {
        let mut case = Case::<f32>::new(4, vocab, 2.0, Layout { padding: 1, shift: 0 });
        case.targets = vec![0, 1, 2, 3];
        case.upstream = vec![1.0; 4];
        for (row, logits) in case.logits.chunks_mut(vocab).enumerate() {
            // Whole threads and warps see nothing but -inf.
            logits[5..vocab - vocab / 4].fill(f32::NEG_INFINITY);
            logits[row] = 24.0;
        }
        let expected = case.expected();
        for seed in seeds() {
            let forward = case.forward(&module, true, seed);
            check(&forward.logp, &expected.logp.0, &expected.logp.1, 1e-12);
            check(&forward.entropy.unwrap_or_default(), &expected.entropy.0, &expected.entropy.1, 1e-11);
            let gradient = case.backward_in_place(&module, &forward.lse, seed);
            check(&gradient, &expected.gradient.0, &expected.gradient.1, 1e-13);
        }
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn logits_far_from_zero() {
    let module = module("logp.cu");
    for (vocab, shift) in
        SIZES.into_iter().flat_map(|vocab| [-4096.0, -300.0, 300.0, 4096.0].map(|s| (vocab, s)))
    {
        let mut case = Case::<f32>::new(4, vocab, 4.0, Layout::default());
        // Adding 4096 leaves 11 bits behind the point; both numbers are exact after this.
        case.logits.iter_mut().for_each(|x| *x = (*x * 1024.0).round() / 1024.0 + shift);
        let expected = case.expected();
        let forward = case.forward(&module, true, 1);
        check(&pick(&forward.logp, &expected.rows, 1), &expected.logp.0, &expected.logp.1, atol(4.0));
        let entropy = forward.entropy.unwrap_or_default();
        check(&pick(&entropy, &expected.rows, 1), &expected.entropy.0, &expected.entropy.1, 4.0 * atol(4.0));
        let gradient = case.backward_in_place(&module, &forward.lse, 1);
        check(&pick(&gradient, &expected.rows, vocab), &expected.gradient.0, &expected.gradient.1, 1e-6);
    }
}

/// Gradients whose every bit is known: `-g e^0` of the token that is not the target.
#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn bf16_gradients_are_rounded_to_nearest_even_and_nan_stays() {
    let module = module("logp.cu");
    let ulp = 1.0 / 128.0;
    let upstream: Vec<f32> = (0..24u8).map(|eighths| 1.0 + ulp * f32::from(eighths) / 8.0).collect();
    let mut case = Case::<f32>::new(upstream.len(), 2, 0.0, Layout { padding: 6, shift: 0 });
    case.targets.fill(1);
    case.upstream.clone_from(&upstream);
    let lse = vec![0.0; 2 * upstream.len()];
    let gradient = case.backward::<u16>(&module, &lse, case.layout, 0);
    for (g, got) in upstream.iter().zip(gradient.chunks(2)) {
        let units = f64::from((g - 1.0) / ulp);
        let even = units.round_ties_even() as f32;
        assert_eq!(got[0].widen(), -(1.0 + even * ulp), "-{g}");
    }
    // What the device's own arithmetic makes of invalid operations: all ones, which rounding up would carry into the sign.
    case.logits.chunks_mut(2).for_each(|row| row[0] = f32::from_bits(0x7fff_ffff));
    let gradient = case.backward::<u16>(&module, &lse, case.layout, 0);
    assert!(gradient.chunks(2).all(|row| row[0].widen().is_nan() && row[1].widen() == 0.0), "{gradient:x?}");
}
