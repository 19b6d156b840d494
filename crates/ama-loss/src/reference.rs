//! The same mathematics in `f64`, one line an equation: what every kernel is tested against.
//!
//! Shapes and symbols as in [`cpu`](crate::cpu); slices are row-major. Nothing here is fast, checked or memory-aware: a
//! slice of the wrong length panics. Use it in tests and to read.

use crate::{PairLogps, PreferenceKind};

/// `x_i[t_i] - ln sum_j e^(x_ij)` of every row of `logits` `[targets.len(), vocab]`, in nats.
pub fn log_softmax_gather(logits: &[f64], targets: &[u32], vocab: usize) -> Vec<f64> {
    let rows = logits.chunks(vocab).zip(targets);
    rows.map(|(row, target)| row[*target as usize] - log_sum_exp(row)).collect()
}

/// `ln sum_j e^(x_j)`.
pub fn log_sum_exp(row: &[f64]) -> f64 {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + row.iter().map(|x| (x - most).exp()).sum::<f64>().ln()
}

/// `-sum_j p_j ln p_j`, `p = softmax(x)`, of every row of `logits` `[rows, vocab]`, in nats; `0 ln 0` is 0.
pub fn entropy(logits: &[f64], vocab: usize) -> Vec<f64> {
    let term = |logp: f64| if logp == f64::NEG_INFINITY { 0.0 } else { -logp * logp.exp() };
    let of_row = |row: &[f64]| {
        let lse = log_sum_exp(row);
        row.iter().map(|x| term(x - lse)).sum()
    };
    logits.chunks(vocab).map(of_row).collect()
}

/// `dx_ij = g_i (1[j = t_i] - softmax(x_i)_j)`: gradient of [`log_softmax_gather`] times `upstream` `[rows]`.
pub fn log_softmax_gather_backward(
    logits: &[f64],
    targets: &[u32],
    upstream: &[f64],
    vocab: usize,
) -> Vec<f64> {
    let mut out = Vec::with_capacity(logits.len());
    for ((row, target), g) in logits.chunks(vocab).zip(targets).zip(upstream) {
        let lse = log_sum_exp(row);
        for (j, x) in row.iter().enumerate() {
            let onehot = if j == *target as usize { 1.0 } else { 0.0 };
            out.push(g * (onehot - (x - lse).exp()));
        }
    }
    out
}

/// `X = H W^T`: `hidden` `[n, d]`, `weight` `[vocab, d]`, result `[n, vocab]`.
pub fn linear(hidden: &[f64], weight: &[f64], d: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for h in hidden.chunks(d) {
        out.extend(weight.chunks(d).map(|w| h.iter().zip(w).map(|(a, b)| a * b).sum::<f64>()));
    }
    out
}

/// `log_softmax(H W^T)[t]`, in nats.
pub fn linear_logp_forward(hidden: &[f64], weight: &[f64], targets: &[u32], d: usize) -> Vec<f64> {
    log_softmax_gather(&linear(hidden, weight, d), targets, weight.len() / d)
}

/// `(dX W, dX^T H)`: gradients of [`linear_logp_forward`] times `upstream` `[n]`, with respect to `hidden` and `weight`.
pub fn linear_logp_backward(
    hidden: &[f64],
    weight: &[f64],
    targets: &[u32],
    upstream: &[f64],
    d: usize,
) -> (Vec<f64>, Vec<f64>) {
    let vocab = weight.len() / d;
    let d_x = log_softmax_gather_backward(&linear(hidden, weight, d), targets, upstream, vocab);
    let (mut d_hidden, mut d_weight) = (vec![0.0; hidden.len()], vec![0.0; weight.len()]);
    for (i, row) in d_x.chunks(vocab).enumerate() {
        for (j, g) in row.iter().enumerate() {
            for p in 0..d {
                d_hidden[i * d + p] += g * weight[j * d + p];
                d_weight[j * d + p] += g * hidden[i * d + p];
            }
        }
    }
    (d_hidden, d_weight)
}

/// A preference loss as its paper writes it (see [`PreferenceKind`]), with `beta` and SFT weight `gamma`; good for
/// margins that `exp` can take (about +-700).
pub fn preference_loss(kind: PreferenceKind, beta: f64, gamma: f64, pair: &PairLogps) -> f64 {
    let ln_sigmoid = |x: f64| -(1.0 + (-x).exp()).ln();
    let (chosen, rejected) = (pair.chosen - pair.ref_chosen, pair.rejected - pair.ref_rejected);
    let (chosen_tokens, rejected_tokens) = (f64::from(pair.chosen_tokens), f64::from(pair.rejected_tokens));
    let m = beta * (chosen - rejected);
    let loss = match kind {
        PreferenceKind::Sigmoid { label_smoothing: e } => -(1.0 - e) * ln_sigmoid(m) - e * ln_sigmoid(-m),
        PreferenceKind::Ipo => {
            (chosen / chosen_tokens - rejected / rejected_tokens - 1.0 / (2.0 * beta)).powi(2)
        }
        PreferenceKind::Hinge => (1.0 - m).max(0.0),
        PreferenceKind::Robust { label_smoothing: e } => {
            (-(1.0 - e) * ln_sigmoid(m) + e * ln_sigmoid(-m)) / (1.0 - 2.0 * e)
        }
    };
    loss - gamma * pair.chosen / chosen_tokens
}
