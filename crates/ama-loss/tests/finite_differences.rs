//! The `f64` reference against central differences of itself: what every kernel, of processor and device, is then held to.
//!
//! Rung 1 of `cargo xtask cuda-check`.

mod common;

use ama_loss::{PairLogps, PreferenceKind, PreferenceLoss, reference};
use common::{targets, uniform, wide};

const STEP: f64 = 1e-5;

/// `d f / d x` of every element of `x`, to about 1e-9 for functions of order 1.
fn differences(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let moved = |i: usize, by: f64| {
        let mut x = x.to_vec();
        x[i] += by;
        f(&x)
    };
    (0..x.len()).map(|i| (moved(i, STEP) - moved(i, -STEP)) / (2.0 * STEP)).collect()
}

#[track_caller]
fn close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= 1e-8 * w.abs().max(1.0), "element {i}: {g} vs {w}");
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn log_probability_by_counting() {
    // Four logits ln 1 .. ln 4: probabilities 1/10 .. 4/10.
    let row: Vec<f64> = (1..=4u32).map(|k| f64::from(k).ln()).collect();
    let logp = reference::log_softmax_gather(&[row.clone(), row.clone()].concat(), &[0, 3], 4);
    close(&logp, &[0.1f64.ln(), 0.4f64.ln()]);
    let entropy = -(1..=4u32).map(|k| f64::from(k) / 10.0 * (f64::from(k) / 10.0).ln()).sum::<f64>();
    close(&reference::entropy(&row, 4), &[entropy]);
    close(&reference::entropy(&[3.0; 8], 4), &[4f64.ln(); 2]);
    close(&reference::entropy(&[0.0, f64::NEG_INFINITY], 2), &[0.0]);
}

#[test]
fn gradient_of_the_log_probability() {
    for (rows, vocab, scale) in [(1, 1, 1.0), (3, 2, 1.0), (4, 31, 3.0), (2, 65, 8.0)] {
        let logits = wide(&uniform(1, rows * vocab, scale));
        let (targets, upstream) = (targets(rows, vocab), wide(&uniform(2, rows, 1.0)));
        let value = |x: &[f64]| dot(&reference::log_softmax_gather(x, &targets, vocab), &upstream);
        let gradient = reference::log_softmax_gather_backward(&logits, &targets, &upstream, vocab);
        close(&gradient, &differences(&logits, value));
    }
}

#[test]
fn entropy_is_the_mean_surprise() {
    // By its definition through another function: H = -sum_j p_j logp_j, and dH/dx_j = -p_j (logp_j + H).
    let vocab = 13;
    let logits = wide(&uniform(3, vocab, 4.0));
    let logp: Vec<f64> =
        (0..vocab as u32).map(|t| reference::log_softmax_gather(&logits, &[t], vocab)[0]).collect();
    let entropy = reference::entropy(&logits, vocab)[0];
    close(&[entropy], &[-logp.iter().map(|l| l * l.exp()).sum::<f64>()]);
    let slope: Vec<f64> = logp.iter().map(|l| -l.exp() * (l + entropy)).collect();
    close(&slope, &differences(&logits, |x| reference::entropy(x, vocab)[0]));
}

#[test]
fn gradients_of_the_head() {
    for (rows, d, vocab) in [(1, 1, 1), (3, 4, 5), (2, 7, 11)] {
        let (hidden, weight) = (wide(&uniform(1, rows * d, 1.0)), wide(&uniform(2, vocab * d, 1.0)));
        let (targets, upstream) = (targets(rows, vocab), wide(&uniform(3, rows, 1.0)));
        let value = |h: &[f64], w: &[f64]| dot(&reference::linear_logp_forward(h, w, &targets, d), &upstream);
        let (d_hidden, d_weight) = reference::linear_logp_backward(&hidden, &weight, &targets, &upstream, d);
        close(&d_hidden, &differences(&hidden, |h| value(h, &weight)));
        close(&d_weight, &differences(&weight, |w| value(&hidden, w)));
    }
}

#[test]
fn gradients_of_the_preference_losses() {
    let kinds = [
        PreferenceKind::Sigmoid { label_smoothing: 0.0 },
        PreferenceKind::Sigmoid { label_smoothing: 0.2 },
        PreferenceKind::Ipo,
        PreferenceKind::Hinge,
        PreferenceKind::Robust { label_smoothing: 0.0 },
        PreferenceKind::Robust { label_smoothing: 0.3 },
    ];
    for kind in kinds {
        for (beta, gamma) in [(0.1, 0.0), (0.5, 0.4)] {
            let loss = PreferenceLoss::new(kind, beta, gamma).expect("legal hyper-parameters");
            for x in uniform(7, 4 * 25, 12.0).chunks(4) {
                let x: Vec<f64> = x.iter().map(|x| f64::from(*x) - 30.0).collect();
                let pair = |c: f64, r: f64| PairLogps {
                    chosen: c,
                    rejected: r,
                    ref_chosen: x[2],
                    ref_rejected: x[3],
                    chosen_tokens: 9,
                    rejected_tokens: 14,
                };
                let got = loss.evaluate(&pair(x[0], x[1]));
                let as_written = reference::preference_loss(kind, beta, gamma, &pair(x[0], x[1]));
                close(&[got.loss_nats], &[as_written]);
                let value = |y: &[f64]| reference::preference_loss(kind, beta, gamma, &pair(y[0], y[1]));
                close(&[got.d_chosen, got.d_rejected], &differences(&x[..2], value));
            }
        }
    }
}
