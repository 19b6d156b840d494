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
    /// The driver's library is not there.
    #[cfg(feature = "cuda")]
    #[error("no CUDA driver on this machine; install NVIDIA's (libcuda.so.1), or compute on the CPU")]
    NoDriver,
    /// The driver is older than what the kernels are compiled for.
    #[cfg(feature = "cuda")]
    #[error(
        "the CUDA driver is for CUDA {}.{}, want at least {}.{}; update the driver", got / 1000, got % 1000 / 10,
        want / 1000, want % 1000 / 10
    )]
    DriverTooOld {
        /// Version of the driver, as CUDA counts (`12080` is 12.8).
        got: i32,
        /// Least version that works.
        want: i32,
    },
    /// No such device.
    #[cfg(feature = "cuda")]
    #[error("no CUDA device {ordinal}, the driver has {count}; see `nvidia-smi` and CUDA_VISIBLE_DEVICES")]
    NoDevice {
        /// Number of the device that was wanted, from 0.
        ordinal: usize,
        /// Devices that there are.
        count: usize,
    },
    /// A CUDA library is missing, or lacks a function.
    #[cfg(feature = "cuda")]
    #[error("{name} cannot be used: {detail}; install CUDA's libraries and put them on the library path")]
    CudaLibrary {
        /// The library.
        name: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The driver refused something.
    #[cfg(feature = "cuda")]
    #[error("{doing} failed with {code}; {remedy}")]
    Driver {
        /// What was being done.
        doing: &'static str,
        /// The driver's name of the error.
        code: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The device's memory is full.
    #[cfg(feature = "cuda")]
    #[error("no {bytes} bytes on the device for `{what}`; lower the logits budget or the batch size")]
    DeviceMemory {
        /// What the memory was for.
        what: &'static str,
        /// Bytes that were wanted.
        bytes: usize,
    },
    /// A slice lies on another device than the kernels.
    #[cfg(feature = "cuda")]
    #[error("`{what}` lies on CUDA device {got}, the kernels on {want}; copy it there")]
    OtherDevice {
        /// Name of the argument.
        what: &'static str,
        /// Device of the kernels.
        want: usize,
        /// Device of the slice.
        got: usize,
    },
    /// The kernels do not compile: an NVRTC that this crate does not know.
    #[cfg(feature = "cuda")]
    #[error("NVRTC refused {source_name}: {log}; use NVRTC 11.2 to 13")]
    Compile {
        /// The source file.
        source_name: &'static str,
        /// What the compiler said.
        log: String,
    },
    /// A matrix product was refused.
    #[cfg(feature = "cuda")]
    #[error("cuBLASLt refused a product of {rows} x {inner} by {inner} x {cols} with {status}; {remedy}")]
    Cublas {
        /// Rows of the result.
        rows: usize,
        /// Length of the sums.
        inner: usize,
        /// Columns of the result.
        cols: usize,
        /// The library's name of the error.
        status: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// More than a launch can number.
    #[cfg(feature = "cuda")]
    #[error("`{what}` is {got}, a kernel takes at most {most}; split the batch")]
    TooMany {
        /// Name of the dimension.
        what: &'static str,
        /// Its size.
        got: usize,
        /// The largest size that works.
        most: usize,
    },
    /// Offsets of sequences that decrease or leave the rows.
    #[cfg(feature = "cuda")]
    #[error(
        "offset {index} of the sequences is {got}, want a value from {least} to {most}; offsets must not decrease"
    )]
    Offset {
        /// Index of the offset.
        index: usize,
        /// The offset.
        got: u32,
        /// The offset before it.
        least: u32,
        /// Number of rows.
        most: u32,
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
