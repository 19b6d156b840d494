//! Everything that can be wrong with a call into this crate.

/// What was wanted, what came, where, and what to do about it.
///
/// Inputs are checked before any output is touched: after an error every output buffer is as it was.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// A slice does not hold what the shape says.
    #[error("`{what}` holds {got} elements, want {want}; check it against the shape")]
    Length {
        /// Name of the argument.
        what: &'static str,
        /// Elements that the shape asks for.
        want: usize,
        /// Elements that came.
        got: usize,
    },
    /// A dimension that must not be zero is zero.
    #[error("`{what}` is 0, want at least 1; skip empty batches before calling")]
    Empty {
        /// Name of the dimension.
        what: &'static str,
    },
    /// A target is not a token of the vocabulary.
    #[error("row {row}: target {target} is outside the vocabulary of {vocab}; check tokenizer against model")]
    Target {
        /// Row of the target.
        row: usize,
        /// The target.
        target: u32,
        /// Tokens in the vocabulary.
        vocab: usize,
    },
    /// The byte size of a matrix does not fit the address space.
    #[error("`{what}` of {rows} x {cols} floats does not fit the address space")]
    Overflow {
        /// Name of the matrix.
        what: &'static str,
        /// Its rows (or row stride).
        rows: usize,
        /// Its columns.
        cols: usize,
    },
    /// The budget for logits does not even hold one of them.
    #[error("the logits budget is {got} bytes, want at least {want}; 64 MiB is a good value")]
    Budget {
        /// Least bytes that work.
        want: usize,
        /// Bytes that came.
        got: usize,
    },
    /// Two elements of a matrix to be written share one address, or rows overlap.
    #[error(
        "`{what}` of {rows} x {cols} with strides {row_stride}, {col_stride} overlaps itself; \
         an output needs an address for every element"
    )]
    Strides {
        /// Name of the matrix.
        what: &'static str,
        /// Its rows.
        rows: usize,
        /// Its columns.
        cols: usize,
        /// Elements from one row to the next.
        row_stride: usize,
        /// Elements from one column to the next.
        col_stride: usize,
    },
    /// Matrices that do not fit together.
    #[error(
        "cannot multiply {lhs_rows} x {lhs_cols} by {rhs_rows} x {rhs_cols} into {dst_rows} x {dst_cols}; \
         transpose or reshape one of them"
    )]
    Product {
        /// Rows of the left factor.
        lhs_rows: usize,
        /// Columns of the left factor.
        lhs_cols: usize,
        /// Rows of the right factor.
        rhs_rows: usize,
        /// Columns of the right factor.
        rhs_cols: usize,
        /// Rows of the destination.
        dst_rows: usize,
        /// Columns of the destination.
        dst_cols: usize,
    },
    /// A hyper-parameter outside its range.
    #[error("`{name}` is {value}, want {want}")]
    Parameter {
        /// Name of the hyper-parameter.
        name: &'static str,
        /// The value that came.
        value: f64,
        /// Its range, in words.
        want: &'static str,
    },
}

/// Refuses a slice of the wrong length.
pub(crate) fn check_len(what: &'static str, got: usize, want: usize) -> Result<(), LossError> {
    if got == want { Ok(()) } else { Err(LossError::Length { what, want, got }) }
}

/// Refuses a dimension of zero.
pub(crate) fn check_some(what: &'static str, n: usize) -> Result<(), LossError> {
    if n == 0 { Err(LossError::Empty { what }) } else { Ok(()) }
}

/// `rows * cols`, refused when that many floats cannot be addressed.
pub(crate) fn elements(what: &'static str, rows: usize, cols: usize) -> Result<usize, LossError> {
    rows.checked_mul(cols)
        .filter(|n| *n <= isize::MAX as usize / size_of::<f32>())
        .ok_or(LossError::Overflow { what, rows, cols })
}

/// Refuses targets outside the vocabulary.
pub(crate) fn check_targets(targets: &[u32], vocab: usize) -> Result<(), LossError> {
    match targets.iter().position(|t| *t as usize >= vocab) {
        Some(row) => Err(LossError::Target { row, target: targets[row], vocab }),
        None => Ok(()),
    }
}
