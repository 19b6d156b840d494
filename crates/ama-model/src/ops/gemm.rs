//! Products of contiguous row-major matrices: a short face over [`ama_loss::gemm`].

use ama_loss::gemm::{MatMut, MatRef, matmul};
use ama_loss::{LossError, Threads};

/// One factor of a product, row-major, read as it lies or transposed.
#[derive(Clone, Copy)]
pub(crate) enum Factor<'a> {
    /// The matrix as stored.
    Plain(&'a [f32]),
    /// The transpose of the matrix as stored.
    Transposed(&'a [f32]),
}

/// Rows and columns of the result, and the length of the sums: `(m, n, k)`.
pub(crate) type Dims = (usize, usize, usize);

/// `c (+)= a b` with `a` `m x k`, `b` `k x n`, `c` `m x n`; several threads if it is large enough.
///
/// # Panics
/// If a length does not fit.
pub(crate) fn gemm(c: &mut [f32], dims: Dims, a: Factor<'_>, b: Factor<'_>, add: bool) {
    product(Threads::current(), c, dims, a, b, add);
}

fn product(threads: Threads, c: &mut [f32], (m, n, k): Dims, a: Factor<'_>, b: Factor<'_>, add: bool) {
    let done =
        MatMut::row_major(c, m, n).and_then(|c| matmul(c, add, matrix(a, m, k)?, matrix(b, k, n)?, threads));
    if let Err(error) = done {
        panic!("{m} x {k} times {k} x {n}: {error}");
    }
}

fn matrix(factor: Factor<'_>, rows: usize, cols: usize) -> Result<MatRef<'_>, LossError> {
    match factor {
        Factor::Plain(data) => MatRef::row_major(data, rows, cols),
        Factor::Transposed(data) => MatRef::row_major(data, cols, rows).map(MatRef::t),
    }
}
