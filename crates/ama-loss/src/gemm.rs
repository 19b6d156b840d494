//! Matrix products: a safe face over the `gemm` crate, which picks AVX-512, AVX2, NEON or portable code when it runs.
//!
//! # Safety
//!
//! The one `unsafe` block hands raw pointers, sizes and strides to `gemm::gemm`, which reads `lhs[i, p]`, `rhs[p, j]`
//! and reads or writes `dst[i, j]` for indices below the given sizes, and nothing else. Sound because a [`MatRef`] or
//! [`MatMut`] can only be built through [`MatRef::strided`] and [`MatMut::strided`], which check that the last
//! element's offset lies inside the slice and (for [`MatMut`]) that no two elements share an address, so that the
//! threads of one product never write to the same place; and because `dst` is an exclusive borrow, so it cannot
//! overlap the factors.
#![allow(unsafe_code, reason = "gemm takes raw pointers; see the module's safety argument")]

use crate::Threads;
use crate::error::{LossError, check_len, elements};

/// A matrix of `f32` that is read: a slice with sizes and strides in elements.
#[derive(Debug, Clone, Copy)]
pub struct MatRef<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> MatRef<'a> {
    /// `rows x cols`, row after row; `data` holds exactly `rows * cols`.
    ///
    /// # Errors
    /// [`LossError::Length`], [`LossError::Overflow`].
    pub fn row_major(data: &'a [f32], rows: usize, cols: usize) -> Result<Self, LossError> {
        check_len("data", data.len(), elements("matrix", rows, cols)?)?;
        Self::strided(data, rows, cols, cols, 1)
    }

    /// `rows x cols` whose element `[i, j]` is `data[i * row_stride + j * col_stride]`; `data` may be longer.
    ///
    /// # Errors
    /// [`LossError::Length`] if `data` ends before the last element, [`LossError::Overflow`].
    pub fn strided(
        data: &'a [f32],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Result<Self, LossError> {
        check_extent(data.len(), rows, cols, row_stride, col_stride)?;
        Ok(Self { data, rows, cols, row_stride, col_stride })
    }

    /// The transpose; no element moves.
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// A matrix of `f32` that is written: a slice with sizes and strides in elements, no two of which coincide.
#[derive(Debug)]
pub struct MatMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> MatMut<'a> {
    /// `rows x cols`, row after row; `data` holds exactly `rows * cols`.
    ///
    /// # Errors
    /// [`LossError::Length`], [`LossError::Overflow`].
    pub fn row_major(data: &'a mut [f32], rows: usize, cols: usize) -> Result<Self, LossError> {
        check_len("data", data.len(), elements("matrix", rows, cols)?)?;
        Self::strided(data, rows, cols, cols, 1)
    }

    /// `rows x cols` whose element `[i, j]` is `data[i * row_stride + j * col_stride]`; `data` may be longer.
    ///
    /// # Errors
    /// [`LossError::Length`] if `data` ends before the last element, [`LossError::Strides`] if elements would
    /// overlap, [`LossError::Overflow`].
    pub fn strided(
        data: &'a mut [f32],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Result<Self, LossError> {
        check_extent(data.len(), rows, cols, row_stride, col_stride)?;
        // One direction must step over everything that the other one covers.
        let apart = |outer: usize, outer_stride: usize, inner: usize, inner_stride: usize| {
            let inner_apart = inner <= 1 || inner_stride >= 1;
            let covered = inner.saturating_sub(1).saturating_mul(inner_stride);
            inner_apart && (outer <= 1 || outer_stride > covered)
        };
        if rows > 0
            && cols > 0
            && !apart(rows, row_stride, cols, col_stride)
            && !apart(cols, col_stride, rows, row_stride)
        {
            return Err(LossError::Strides { what: "destination", rows, cols, row_stride, col_stride });
        }
        Ok(Self { data, rows, cols, row_stride, col_stride })
    }

    /// The transpose; no element moves.
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// Refuses a matrix whose last element lies outside of `len` elements.
fn check_extent(
    len: usize,
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
) -> Result<(), LossError> {
    elements("matrix", rows, cols)?;
    if rows == 0 || cols == 0 {
        return Ok(());
    }
    let want = elements("matrix", rows - 1, row_stride)?
        .checked_add(elements("matrix", cols - 1, col_stride)?)
        .and_then(|last| last.checked_add(1))
        .ok_or(LossError::Overflow { what: "matrix", rows, cols })?;
    if len < want {
        return Err(LossError::Length { what: "data", want, got: len });
    }
    // `gemm` takes strides as isize; a stride that is never stepped over may still be absurd.
    if row_stride > isize::MAX as usize || col_stride > isize::MAX as usize {
        return Err(LossError::Overflow { what: "matrix", rows: row_stride.max(col_stride), cols });
    }
    Ok(())
}

/// `dst = lhs rhs`, or `dst += lhs rhs` with `accumulate`.
///
/// Accumulates in `f32` (fused where the machine can), in an order fixed by the shape and the thread count. Without
/// `accumulate`, what `dst` held does not matter (NaN included). Threads join in only from about 600,000
/// multiply-adds on.
///
/// # Shapes
/// `lhs` `[m, k]`, `rhs` `[k, n]`, `dst` `[m, n]`; any may be transposed with `t()`. With `k = 0` the product is 0.
///
/// # Errors
/// [`LossError::Product`] if the shapes do not fit; `dst` is untouched then.
///
/// # Example
/// `y = x W^T` of a linear layer whose weight is stored `[out, in]` as Hugging Face does:
/// ```
/// use ama_loss::Threads;
/// use ama_loss::gemm::{MatMut, MatRef, matmul};
/// let (x, w) = ([1.0, 2.0], [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
/// let mut y = [f32::NAN; 3];
/// let (x, w) = (MatRef::row_major(&x, 1, 2)?, MatRef::row_major(&w, 3, 2)?);
/// matmul(MatMut::row_major(&mut y, 1, 3)?, false, x, w.t(), Threads::current())?;
/// assert_eq!(y, [1.0, 2.0, 3.0]);
/// # Ok::<(), ama_loss::LossError>(())
/// ```
pub fn matmul(
    dst: MatMut<'_>,
    accumulate: bool,
    lhs: MatRef<'_>,
    rhs: MatRef<'_>,
    threads: Threads,
) -> Result<(), LossError> {
    let (m, n, k) = (dst.rows, dst.cols, lhs.cols);
    if lhs.rows != m || rhs.cols != n || rhs.rows != k {
        return Err(LossError::Product {
            lhs_rows: lhs.rows,
            lhs_cols: lhs.cols,
            rhs_rows: rhs.rows,
            rhs_cols: rhs.cols,
            dst_rows: m,
            dst_cols: n,
        });
    }
    if m == 0 || n == 0 {
        return Ok(());
    }
    if k == 0 {
        if !accumulate {
            for i in 0..m {
                for j in 0..n {
                    dst.data[i * dst.row_stride + j * dst.col_stride] = 0.0;
                }
            }
        }
        return Ok(());
    }
    let parallelism = match threads.get() {
        1 => gemm::Parallelism::None,
        n => gemm::Parallelism::Rayon(n),
    };
    // SAFETY: every offset that gemm forms, `i * row_stride + j * col_stride` for indices below the sizes, lies inside
    // the slice of its matrix (checked when the matrix was made; the sizes agree as checked above and none is 0);
    // strides fit isize (checked there too); `dst` is exclusively borrowed and its elements are distinct.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.data.as_mut_ptr(),
            dst.col_stride as isize,
            dst.row_stride as isize,
            accumulate,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
    Ok(())
}
