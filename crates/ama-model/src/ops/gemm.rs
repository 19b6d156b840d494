//! Matrix products of contiguous row-major matrices: a thin face over the `gemm` crate.

#![allow(unsafe_code, reason = "gemm takes raw pointers; lengths are checked right before the call")]

/// One factor of a product, row-major, read as it lies or transposed.
#[derive(Clone, Copy)]
pub(crate) enum Factor<'a> {
    /// The matrix as stored.
    Plain(&'a [f32]),
    /// The transpose of the matrix as stored.
    Transposed(&'a [f32]),
}
use Factor::{Plain, Transposed};

/// Multiply-adds under which a product is not worth a second thread.
const PARALLEL_FROM: usize = 2 * 1024 * 1024;

/// `c (+)= a b` with `a` `m x k`, `b` `k x n`, `c` `m x n`; several threads if it is large enough.
pub(crate) fn gemm(c: &mut [f32], (m, n, k): (usize, usize, usize), a: Factor<'_>, b: Factor<'_>, add: bool) {
    let threads = if m * n * k < PARALLEL_FROM { 1 } else { rayon::current_num_threads() };
    gemm_on(threads, c, (m, n, k), a, b, add);
}

/// As [`gemm`], on the calling thread.
pub(crate) fn gemm_here(c: &mut [f32], dims: (usize, usize, usize), a: Factor<'_>, b: Factor<'_>, add: bool) {
    gemm_on(1, c, dims, a, b, add);
}

fn gemm_on(
    threads: usize,
    c: &mut [f32],
    (m, n, k): (usize, usize, usize),
    a: Factor<'_>,
    b: Factor<'_>,
    add: bool,
) {
    let (a, a_rows, a_cols) = match a {
        Plain(a) => (a, k, 1),
        Transposed(a) => (a, 1, m),
    };
    let (b, b_rows, b_cols) = match b {
        Plain(b) => (b, n, 1),
        Transposed(b) => (b, 1, k),
    };
    assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n, "{m} x {k} times {k} x {n}");
    let parallelism = if threads <= 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(threads) };
    // SAFETY: the three buffers hold m k, k n and m n floats (asserted above), all strides stay within them, and `c`
    // is exclusively borrowed.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.as_ptr(),
            a_cols as isize,
            a_rows as isize,
            b.as_ptr(),
            b_cols as isize,
            b_rows as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
