//! The PTX that NVRTC makes of the kernels against the same kernels as host C++: equal to rounding in `f32`, where the two
//! `expf` differ, and to the bit in sums.
//!
//! Needs `AMA_CUDA_PTX`, a folder of PTX that `ama-loss`'s test `cuda_assembled` writes: `cargo xtask cuda-check --rung 6`.

mod common;

use ama_loss::PreferenceLoss;
use common::logp::{Case, Layout};
use common::preference::{Batch, KINDS, Mode};
use common::segment_sum;
use common::{Kernels, Logit, emulated, module};

/// Both.
fn pair(file: &str) -> [Kernels; 2] {
    let interpreted = module(file);
    assert!(matches!(interpreted, Kernels::Interpreted(_)), "AMA_CUDA_PTX is not set");
    [Kernels::Emulated(emulated(file)), interpreted]
}

#[track_caller]
fn close(a: &[f32], b: &[f32], atol: f32) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= atol || (a.is_nan() && b.is_nan()), "element {i}: {a} and {b}");
    }
}

fn logp<T: Logit, D: Logit>() {
    let kernels = pair("logp.cu");
    for vocab in [1, 31, 1025, 4099] {
        let case = Case::<T>::new(6, vocab, 8.0, Layout { padding: 3, shift: 1 });
        let [a, b] = kernels.each_ref().map(|k| case.forward(k, true, 0));
        close(&a.logp, &b.logp, 4e-6);
        close(&a.lse, &b.lse, 4e-6);
        close(&a.entropy.unwrap_or_default(), &b.entropy.unwrap_or_default(), 2e-5);
        let [c, d] = kernels.each_ref().map(|k| case.backward::<D>(k, &a.lse, Layout::default(), 0));
        let wide = |x: &[D]| x.iter().map(|x| x.widen()).collect::<Vec<f32>>();
        // In bf16 a neighbour: 2^-8 below 1.
        close(&wide(&c), &wide(&d), if D::NAME == "bf16" { 1.0 / 256.0 } else { 1e-6 });
    }
}

#[test]
#[ignore = "needs a C++ compiler and NVRTC: cargo xtask cuda-check"]
fn log_probabilities_and_gradients() {
    logp::<f32, f32>();
    logp::<u16, u16>();
    logp::<f32, u16>();
}

#[test]
#[ignore = "needs a C++ compiler and NVRTC: cargo xtask cuda-check"]
fn sums_to_the_bit() {
    let kernels = pair("segment_sum.cu");
    for lengths in [&[1, 0, 31][..], &[4099, 5, 1024, 1025]] {
        let case = segment_sum::Case::new(lengths, 2, 3);
        let [a, b] =
            kernels.each_ref().map(|k| case.sum(k, 0).into_iter().map(f64::to_bits).collect::<Vec<_>>());
        assert_eq!(a, b);
        let d_sums = vec![0.1; lengths.len()];
        let [a, b] = kernels.each_ref().map(|k| case.spread(k, &d_sums, 0));
        assert_eq!(a, b);
    }
}

#[test]
#[ignore = "needs a C++ compiler and NVRTC: cargo xtask cuda-check"]
fn preference_losses() {
    let kernels = pair("preference.cu");
    let batch = Batch::new(129, true);
    for kind in KINDS {
        let loss = PreferenceLoss::new(kind, 0.1, 0.2).expect("legal hyper-parameters");
        let [a, b] = kernels.each_ref().map(|k| batch.launch(k, &loss, Mode::Clipped, true, 0).concat());
        for (i, (a, b)) in a.iter().zip(&b).enumerate() {
            let same = a == b || (a.is_nan() && b.is_nan());
            assert!(same || (a - b).abs() <= 1e-13 * a.abs().max(1.0), "{kind:?}, number {i}: {a} and {b}");
        }
    }
}
