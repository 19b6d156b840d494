//! Shared by the tests: the error rule, a naive `f32` head, and numbers to feed.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses a part")]

/// A kernel may err no more than naive `f32` against `f64`, plus `atol`. NaN fails; a naive overflow excuses nothing.
#[track_caller]
pub fn check(got: &[f32], naive: &[f32], truth: &[f64], atol: f64) {
    assert_eq!((got.len(), naive.len()), (truth.len(), truth.len()));
    for (i, &t) in truth.iter().enumerate() {
        let err = (f64::from(got[i]) - t).abs();
        let slack = (f64::from(naive[i]) - t).abs();
        let allowed = atol + if slack.is_finite() { slack } else { 0.0 };
        assert!(err <= allowed, "element {i}: {} vs {t}, {err:e} > {allowed:e}", got[i]);
    }
}

/// Uniform in `[-scale, scale)`, the same for a seed everywhere (64-bit LCG, high bits).
pub fn uniform(seed: u64, n: usize, scale: f32) -> Vec<f32> {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..n)
        .map(|_| {
            z = z.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((z >> 40) as f32 / (1u32 << 23) as f32 - 1.0) * scale
        })
        .collect()
}

pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

pub fn targets(rows: usize, vocab: usize) -> Vec<u32> {
    (0..rows).map(|i| ((i * 7919 + 3) % vocab) as u32).collect()
}

/// `X = H W^T`, one multiply and add after the other.
pub fn naive_linear(hidden: &[f32], weight: &[f32], d: usize) -> Vec<f32> {
    let mut out = Vec::new();
    for h in hidden.chunks(d) {
        for w in weight.chunks(d) {
            out.push(h.iter().zip(w).fold(0.0, |sum, (a, b)| sum + a * b));
        }
    }
    out
}

/// Softmax of every row the way everybody writes it first (maximum subtracted), and `x - lse` at the target.
pub fn naive_softmax(logits: &[f32], targets: &[u32], vocab: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut logp, mut softmax) = (Vec::new(), Vec::new());
    for (row, target) in logits.chunks(vocab).zip(targets) {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = row.iter().map(|x| (x - most).exp()).sum();
        logp.push(row[*target as usize] - most - sum.ln());
        softmax.extend(row.iter().map(|x| (x - most).exp() / sum));
    }
    (logp, softmax)
}

/// `g (onehot - softmax)`.
pub fn naive_d_logits(softmax: &[f32], targets: &[u32], upstream: &[f32], vocab: usize) -> Vec<f32> {
    let mut out = softmax.to_vec();
    for ((row, target), g) in out.chunks_mut(vocab).zip(targets).zip(upstream) {
        for (j, p) in row.iter_mut().enumerate() {
            *p = g * (if j == *target as usize { 1.0 } else { 0.0 } - *p);
        }
    }
    out
}

/// `(dX W, dX^T H)`.
pub fn naive_backward(d_x: &[f32], hidden: &[f32], weight: &[f32], d: usize) -> (Vec<f32>, Vec<f32>) {
    let vocab = weight.len() / d;
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

#[cfg(feature = "cuda-tests")]
pub mod device;
