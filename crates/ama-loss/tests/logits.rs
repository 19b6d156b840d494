//! Log-probabilities from given logits against `f64`, with strides and hostile rows.

mod common;

use ama_loss::{
    LogitsShape, logits_logp_backward, logits_logp_backward_in_place, logits_logp_forward, reference,
};
use common::{check, naive_d_logits, naive_softmax, targets, uniform, wide};

#[test]
fn logits_err_no_more_than_naive_f32() {
    for (rows, vocab) in [(1, 1), (1, 31), (31, 1025), (1025, 33), (3, 5000), (2, 49152)] {
        for scale in [1.0, 30.0, 2000.0] {
            let (logits, targets) = (uniform(1, rows * vocab, scale), targets(rows, vocab));
            let upstream = uniform(2, rows, 1.0);
            let shape = LogitsShape::contiguous(rows, vocab);
            let truth = reference::log_softmax_gather(&wide(&logits), &targets, vocab);
            let true_grad =
                reference::log_softmax_gather_backward(&wide(&logits), &targets, &wide(&upstream), vocab);
            let (naive, softmax) = naive_softmax(&logits, &targets, vocab);
            let naive_grad = naive_d_logits(&softmax, &targets, &upstream, vocab);
            let forward = logits_logp_forward(&logits, &targets, shape).unwrap();
            // One rounding of the result to f32.
            check(&forward.logp, &naive, &truth, 4e-7 * f64::from(scale.max(1.0)));
            let mut grad = vec![f32::NAN; logits.len()];
            logits_logp_backward(&logits, &targets, &forward.lse, &upstream, shape, &mut grad).unwrap();
            check(&grad, &naive_grad, &true_grad, 3e-7);
            let mut in_place = logits.clone();
            logits_logp_backward_in_place(&mut in_place, &targets, &forward.lse, &upstream, shape).unwrap();
            assert_eq!(in_place, grad);
        }
    }
}

#[test]
fn padding_between_rows_is_neither_read_nor_written() {
    let (rows, vocab, stride) = (7, 33, 40);
    let dense = uniform(5, rows * vocab, 3.0);
    let mut padded = vec![f32::NAN; (rows - 1) * stride + vocab];
    for (i, row) in dense.chunks(vocab).enumerate() {
        padded[i * stride..][..vocab].copy_from_slice(row);
    }
    let (targets, upstream) = (targets(rows, vocab), uniform(6, rows, 1.0));
    let contiguous = LogitsShape::contiguous(rows, vocab);
    let strided = LogitsShape { rows, vocab, stride };
    let want = logits_logp_forward(&dense, &targets, contiguous).unwrap();
    let got = logits_logp_forward(&padded, &targets, strided).unwrap();
    assert_eq!(got, want);
    let mut want_grad = vec![0.0; dense.len()];
    logits_logp_backward(&dense, &targets, &want.lse, &upstream, contiguous, &mut want_grad).unwrap();
    let mut grad = vec![123.0; padded.len()];
    logits_logp_backward(&padded, &targets, &want.lse, &upstream, strided, &mut grad).unwrap();
    for (i, row) in want_grad.chunks(vocab).enumerate() {
        assert_eq!(grad[i * stride..][..vocab], *row);
        assert!(grad[i * stride..].iter().take(stride).skip(vocab).all(|x| *x == 123.0));
    }
}

#[test]
fn hostile_rows_do_as_documented() {
    const INF: f32 = f32::INFINITY;
    #[rustfmt::skip]
    let logits = [
        1.0, 2.0, 3.0,
        f32::NAN, 0.0, 0.0,
        -INF, -INF, -INF,
        INF, 0.0, 0.0,
        -INF, 5.0, -INF, // certain, and right
        -INF, 5.0, 5.0, // target impossible
        1e9, 1e9, -1e9,
        f32::MAX, f32::MAX, -f32::MAX,
        -f32::MAX, -f32::MAX, -f32::MAX,
    ];
    let targets = [2, 1, 0, 0, 1, 0, 0, 0, 2];
    let shape = LogitsShape::contiguous(9, 3);
    let forward = logits_logp_forward(&logits, &targets, shape).unwrap();
    let ln = |p: f64| p.ln() as f32;
    let first = 3.0 - (1f64.exp() + 2f64.exp() + 3f64.exp()).ln();
    assert!((forward.logp[0] - first as f32).abs() < 1e-6);
    assert!(forward.logp[1..4].iter().all(|x| x.is_nan()), "{:?}", forward.logp);
    assert_eq!(forward.logp[4], 0.0);
    assert_eq!(forward.logp[5], -INF);
    assert_eq!(forward.logp[6..], [ln(0.5), ln(0.5), ln(1.0 / 3.0)]);
    let mut grad = logits.to_vec();
    logits_logp_backward_in_place(&mut grad, &targets, &forward.lse, &[1.0; 9], shape).unwrap();
    assert!(grad[..3].iter().all(|x| x.is_finite()));
    assert!(grad[3..12].chunks(3).all(|row| row.iter().all(|x| x.is_nan())), "{grad:?}");
    assert_eq!(grad[12..15], [0.0, 0.0, 0.0]);
    let near = |got: &[f32], want: &[f32]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(near(&grad[15..18], &[1.0, -0.5, -0.5]), "{grad:?}");
    assert!(near(&grad[18..21], &[0.5, -0.5, 0.0]), "{grad:?}");
}

#[test]
fn a_row_without_upstream_gets_a_zero_gradient_even_from_nan() {
    let mut logits = [f32::NAN, 1.0, 1.0, 2.0];
    let shape = LogitsShape::contiguous(2, 2);
    logits_logp_backward_in_place(&mut logits, &[0, 1], &[f64::NAN, 2.313], &[0.0, 1.0], shape).unwrap();
    assert_eq!(logits[..2], [0.0, 0.0]);
    assert!(logits[3] > 0.0);
}
