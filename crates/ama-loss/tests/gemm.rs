//! Matrix products against `f64`, every layout of every operand.

use ama_loss::Threads;
use ama_loss::gemm::{MatMut, MatRef, matmul};

mod common;
use common::uniform;

/// A slice and strides for `rows x cols` in one of four layouts: row-major, column-major, and both with gaps.
fn layout(which: usize, rows: usize, cols: usize) -> (usize, usize, usize) {
    let (row, col) = match which {
        0 => (cols, 1),
        1 => (1, rows),
        2 => (cols + 3, 1),
        _ => (2, 2 * rows + 1),
    };
    (row, col, (rows - 1) * row + (cols - 1) * col + 1)
}

#[test]
fn every_layout_matches_f64() {
    let threads = [Threads::ONE, Threads::new(4.try_into().unwrap())];
    for (m, n, k) in [(1, 1, 1), (1, 31, 17), (31, 1, 17), (5, 7, 2), (17, 33, 65), (130, 97, 101)] {
        for which in 0..64 {
            let (a_rs, a_cs, a_len) = layout(which % 4, m, k);
            let (b_rs, b_cs, b_len) = layout(which / 4 % 4, k, n);
            let (c_rs, c_cs, c_len) = layout(which / 16, m, n);
            let (a, b, before) = (uniform(1, a_len, 1.0), uniform(2, b_len, 1.0), uniform(3, c_len, 1.0));
            for (accumulate, threads) in [(false, threads[0]), (true, threads[0]), (true, threads[1])] {
                // Without `accumulate`, what was there must not matter, not even NaN.
                let mut c = if accumulate { before.clone() } else { vec![f32::NAN; c_len] };
                let mut inside = vec![false; c_len];
                matmul(
                    MatMut::strided(&mut c, m, n, c_rs, c_cs).unwrap(),
                    accumulate,
                    MatRef::strided(&a, m, k, a_rs, a_cs).unwrap(),
                    MatRef::strided(&b, k, n, b_rs, b_cs).unwrap(),
                    threads,
                )
                .unwrap();
                for i in 0..m {
                    for j in 0..n {
                        let at = i * c_rs + j * c_cs;
                        let dot: f64 = (0..k)
                            .map(|p| f64::from(a[i * a_rs + p * a_cs]) * f64::from(b[p * b_rs + j * b_cs]))
                            .sum();
                        let want = dot + if accumulate { f64::from(before[at]) } else { 0.0 };
                        assert!((f64::from(c[at]) - want).abs() < 1e-5, "{} vs {want}", c[at]);
                        inside[at] = true;
                    }
                }
                for (at, _) in inside.iter().enumerate().filter(|(_, inside)| !**inside) {
                    let kept = if accumulate { c[at] == before[at] } else { c[at].is_nan() };
                    assert!(kept, "gap {at} was written");
                }
            }
        }
    }
}

#[test]
fn empty_products() {
    let mut out = [f32::NAN, f32::NAN];
    let none = MatRef::row_major(&[], 2, 0).unwrap();
    matmul(
        MatMut::row_major(&mut out, 2, 1).unwrap(),
        false,
        none,
        MatRef::row_major(&[], 0, 1).unwrap(),
        Threads::ONE,
    )
    .unwrap();
    assert_eq!(out, [0.0, 0.0]);
    out = [3.0, 4.0];
    matmul(
        MatMut::row_major(&mut out, 2, 1).unwrap(),
        true,
        none,
        MatRef::row_major(&[], 0, 1).unwrap(),
        Threads::ONE,
    )
    .unwrap();
    assert_eq!(out, [3.0, 4.0]);
    let data = [1.0; 3];
    let (a, b) = (MatRef::row_major(&[], 0, 3).unwrap(), MatRef::row_major(&data, 3, 1).unwrap());
    matmul(MatMut::row_major(&mut [], 0, 1).unwrap(), false, a, b, Threads::ONE).unwrap();
}

#[test]
fn the_transpose_is_a_view() {
    let (a, b) = (uniform(1, 6, 1.0), uniform(2, 6, 1.0));
    let (a, b) = (MatRef::row_major(&a, 2, 3).unwrap(), MatRef::row_major(&b, 3, 2).unwrap());
    let (mut c, mut ct) = ([0.0; 4], [0.0; 4]);
    matmul(MatMut::row_major(&mut c, 2, 2).unwrap(), false, a, b, Threads::ONE).unwrap();
    matmul(MatMut::row_major(&mut ct, 2, 2).unwrap().t(), false, b.t().t(), a.t().t(), Threads::ONE)
        .unwrap_err();
    matmul(MatMut::row_major(&mut ct, 2, 2).unwrap(), false, b.t(), a.t(), Threads::ONE).unwrap();
    for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        assert!((c[2 * i + j] - ct[2 * j + i]).abs() < 1e-6);
    }
    assert_eq!((b.t().rows(), b.t().cols()), (2, 3));
}

/// Sizes above that of one block, divided among one to seven threads, which give the same bits.
#[test]
fn parts_of_a_product_match_f64() {
    let cases = [
        (1, 5, 300),
        (3, 200, 257),
        (12, 32, 256),
        (13, 33, 257),
        (25, 96, 96),
        (100, 64, 600),
        (67, 1100, 300),
        (520, 40, 260),
        (700, 33, 30),
    ];
    for (m, n, k) in cases {
        let (a, b, before) = (uniform(1, m * k, 1.0), uniform(2, k * n, 1.0), uniform(3, m * n, 1.0));
        let mut truth = vec![0.0f64; m * n];
        for i in 0..m {
            for p in 0..k {
                let x = f64::from(a[i * k + p]);
                for j in 0..n {
                    truth[i * n + j] += x * f64::from(b[p * n + j]);
                }
            }
        }
        let transposed = |x: &[f32], rows: usize, cols: usize| -> Vec<f32> {
            (0..rows * cols).map(|at| x[at % rows * cols + at / rows]).collect()
        };
        let (a_t, b_t) = (transposed(&a, m, k), transposed(&b, k, n));
        let left = [MatRef::row_major(&a, m, k).unwrap(), MatRef::row_major(&a_t, k, m).unwrap().t()];
        let right = [MatRef::row_major(&b, k, n).unwrap(), MatRef::row_major(&b_t, n, k).unwrap().t()];
        for (lhs, rhs) in left.into_iter().flat_map(|lhs| right.into_iter().map(move |rhs| (lhs, rhs))) {
            for accumulate in [false, true] {
                let run = |threads: usize| {
                    let mut c = if accumulate { before.clone() } else { vec![f32::NAN; m * n] };
                    let dst = MatMut::row_major(&mut c, m, n).unwrap();
                    let threads = Threads::new(threads.try_into().unwrap());
                    matmul(dst, accumulate, lhs, rhs, threads).unwrap();
                    c
                };
                let c = run(1);
                for (i, (c, truth)) in c.iter().zip(&truth).enumerate() {
                    let want = truth + if accumulate { f64::from(before[i]) } else { 0.0 };
                    let error = (f64::from(*c) - want).abs();
                    assert!(error < 3e-5, "{m}x{n}x{k} [{i}]: {c} vs {want}");
                }
                for threads in [2, 3, 7] {
                    assert!(run(threads) == c, "{m}x{n}x{k}: {threads} threads");
                }
            }
        }
    }
}
