//! Wrong calls are refused with the right error, and nothing is written.

use ama_loss::gemm::{MatMut, MatRef, matmul};
use ama_loss::{
    HeadShape, LinearLogp, LogitsShape, LossError, PreferenceKind, PreferenceLoss, Recompute, Threads,
    linear_logp_backward, linear_logp_forward, logits_logp_backward, logits_logp_forward,
};

const SHAPE: HeadShape = HeadShape { rows: 2, hidden: 3, vocab: 4 };

fn forward(h: usize, w: usize, targets: &[u32], shape: HeadShape, budget: usize) -> LossError {
    linear_logp_forward(&vec![0.0; h], &vec![0.0; w], targets, shape, budget).unwrap_err()
}

#[test]
fn head_refuses_wrong_lengths() {
    let length = |what, want, got| LossError::Length { what, want, got };
    assert_eq!(forward(5, 12, &[0, 1], SHAPE, 1 << 20), length("hidden", 6, 5));
    assert_eq!(forward(6, 13, &[0, 1], SHAPE, 1 << 20), length("weight", 12, 13));
    assert_eq!(forward(6, 12, &[0], SHAPE, 1 << 20), length("targets", 2, 1));
    let (h, w, t) = ([0.0; 6], [0.0; 12], [0, 1]);
    let backward = |lse: usize, up: usize, dh: usize, dw: usize| {
        let (mut d_hidden, mut d_weight) = (vec![7.0; dh], vec![7.0; dw]);
        let error = linear_logp_backward(
            &h,
            &w,
            &t,
            &vec![0.0; lse],
            &vec![1.0; up],
            SHAPE,
            1 << 20,
            &mut d_hidden,
            Some(&mut d_weight),
        )
        .unwrap_err();
        assert!(d_hidden.iter().chain(&d_weight).all(|x| *x == 7.0), "written in spite of {error}");
        error
    };
    assert_eq!(backward(1, 2, 6, 12), length("lse", 2, 1));
    assert_eq!(backward(2, 3, 6, 12), length("upstream", 2, 3));
    assert_eq!(backward(2, 2, 7, 12), length("d_hidden", 6, 7));
    assert_eq!(backward(2, 2, 6, 11), length("d_weight", 12, 11));
}

#[test]
fn kept_logits_of_another_batch_are_refused() {
    let (hidden, weight) = ([0.0; 6], [0.0; 12]);
    let head = LinearLogp {
        hidden: &hidden,
        weight: &weight,
        targets: &[0, 1],
        shape: SHAPE,
        budget_bytes: 1 << 20,
    };
    let small =
        LinearLogp { hidden: &hidden[..3], targets: &[0], shape: HeadShape { rows: 1, ..SHAPE }, ..head };
    let (_, kept) = small.forward(Recompute::OverBudget).unwrap();
    let mut d_hidden = [0.0; 6];
    let error = head.backward(&[0.0; 2], kept, &[1.0; 2], &mut d_hidden, None).unwrap_err();
    assert_eq!(error, LossError::Length { what: "kept", want: 8, got: 4 });
}

#[test]
fn head_refuses_foreign_targets_empty_and_absurd_sizes_and_no_budget() {
    assert_eq!(forward(6, 12, &[0, 4], SHAPE, 1 << 20), LossError::Target { row: 1, target: 4, vocab: 4 });
    assert_eq!(
        forward(6, 12, &[u32::MAX, 0], SHAPE, 1 << 20),
        LossError::Target { row: 0, target: u32::MAX, vocab: 4 }
    );
    let empty = |what| LossError::Empty { what };
    assert_eq!(forward(0, 12, &[], HeadShape { rows: 0, ..SHAPE }, 64), empty("rows"));
    assert_eq!(forward(0, 0, &[0, 1], HeadShape { hidden: 0, ..SHAPE }, 64), empty("hidden"));
    assert_eq!(forward(6, 0, &[0, 1], HeadShape { vocab: 0, ..SHAPE }, 64), empty("vocab"));
    assert_eq!(forward(6, 12, &[0, 1], SHAPE, 3), LossError::Budget { want: 4, got: 3 });
    let huge = HeadShape { rows: usize::MAX, hidden: 2, vocab: 3 };
    assert!(matches!(forward(0, 6, &[], huge, 64), LossError::Overflow { what: "hidden", .. }));
    let huge = HeadShape { rows: 1, hidden: 1 << 40, vocab: 1 << 40 };
    assert!(matches!(forward(0, 0, &[], huge, 64), LossError::Overflow { what: "weight", .. }));
    // Fits usize, but not the address space.
    let huge = HeadShape { rows: 1, hidden: 1, vocab: usize::MAX / 4 };
    assert!(matches!(forward(1, 0, &[0], huge, 64), LossError::Overflow { what: "weight", .. }));
}

#[test]
fn logits_refuse_the_same() {
    let shape = LogitsShape { rows: 2, vocab: 3, stride: 4 };
    let forward =
        |n: usize, targets: &[u32], shape| logits_logp_forward(&vec![0.0; n], targets, shape).unwrap_err();
    assert!(logits_logp_forward(&[0.0; 7], &[0, 2], shape).is_ok());
    assert_eq!(forward(6, &[0, 2], shape), LossError::Length { what: "logits", want: 7, got: 6 });
    assert_eq!(forward(7, &[0], shape), LossError::Length { what: "targets", want: 2, got: 1 });
    assert_eq!(forward(7, &[0, 3], shape), LossError::Target { row: 1, target: 3, vocab: 3 });
    assert_eq!(forward(0, &[], LogitsShape { rows: 0, ..shape }), LossError::Empty { what: "rows" });
    assert_eq!(forward(7, &[0, 0], LogitsShape { vocab: 0, ..shape }), LossError::Empty { what: "vocab" });
    assert!(matches!(forward(7, &[0, 0], LogitsShape { stride: 2, ..shape }), LossError::Strides { .. }));
    let huge = LogitsShape { rows: 1 << 40, vocab: 3, stride: 1 << 40 };
    assert!(matches!(forward(7, &[0, 0], huge), LossError::Overflow { .. }));
    let mut short = [7.0; 6];
    let error =
        logits_logp_backward(&[0.0; 7], &[0, 0], &[0.0; 2], &[1.0; 2], shape, &mut short).unwrap_err();
    assert_eq!(error, LossError::Length { what: "d_logits", want: 7, got: 6 });
    assert_eq!(short, [7.0; 6]);
}

#[test]
fn products_refuse_what_would_leave_the_slice_or_overlap() {
    let data = [0.0; 6];
    assert!(MatRef::row_major(&data, 2, 3).is_ok());
    assert!(matches!(MatRef::row_major(&data, 2, 2), Err(LossError::Length { want: 4, got: 6, .. })));
    assert!(matches!(MatRef::strided(&data, 2, 3, 4, 1), Err(LossError::Length { want: 7, got: 6, .. })));
    assert!(MatRef::strided(&data, 2, 3, 0, 1).is_ok(), "a factor may repeat rows");
    assert!(matches!(MatRef::strided(&data, 2, 3, usize::MAX, 1), Err(LossError::Overflow { .. })));
    assert!(matches!(MatRef::strided(&data, 1 << 60, 1 << 10, 0, 0), Err(LossError::Overflow { .. })));
    assert!(matches!(MatRef::strided(&data, 1, 3, usize::MAX, 1), Err(LossError::Overflow { .. })));
    let mut out = [0.0; 6];
    for (rows, cols, row_stride, col_stride) in
        [(2, 3, 0, 1), (2, 3, 2, 1), (2, 3, 1, 0), (2, 1, 0, 1), (3, 2, 1, 2)]
    {
        assert!(
            matches!(
                MatMut::strided(&mut out, rows, cols, row_stride, col_stride),
                Err(LossError::Strides { .. })
            ),
            "{rows} x {cols} with {row_stride}, {col_stride}"
        );
    }
    for (rows, cols, row_stride, col_stride) in
        [(2, 3, 3, 1), (3, 2, 1, 3), (1, 3, 0, 2), (0, 3, 0, 0), (1, 1, 0, 0)]
    {
        MatMut::strided(&mut out, rows, cols, row_stride, col_stride).unwrap();
    }
    out = [5.0; 6];
    let (a, b) = (MatRef::row_major(&data, 2, 3).unwrap(), MatRef::row_major(&data, 2, 3).unwrap());
    let dst = MatMut::row_major(&mut out, 2, 3).unwrap();
    let error = matmul(dst, false, a, b, Threads::ONE).unwrap_err();
    assert!(matches!(error, LossError::Product { lhs_cols: 3, rhs_rows: 2, .. }), "{error}");
    assert_eq!(out, [5.0; 6]);
}

#[test]
fn hyper_parameters_out_of_range_are_refused() {
    let dpo = |label_smoothing| PreferenceKind::Sigmoid { label_smoothing };
    let robust = |label_smoothing| PreferenceKind::Robust { label_smoothing };
    for beta in [0.0, -0.1, f64::NAN, f64::INFINITY] {
        let error = PreferenceLoss::new(dpo(0.0), beta, 0.0).unwrap_err();
        assert!(matches!(error, LossError::Parameter { name: "beta", .. }));
    }
    for gamma in [-1e-9, f64::NAN, f64::INFINITY] {
        let error = PreferenceLoss::new(PreferenceKind::Ipo, 0.1, gamma).unwrap_err();
        assert!(matches!(error, LossError::Parameter { name: "sft_weight", .. }));
    }
    for e in [-0.1, 0.5, 1.0, f64::NAN] {
        for kind in [dpo(e), robust(e)] {
            let error = PreferenceLoss::new(kind, 0.1, 0.0).unwrap_err();
            assert!(matches!(error, LossError::Parameter { name: "label_smoothing", .. }));
        }
    }
}
