//! Matrix products on the device: what [`LinearLogp`](super::LinearLogp) asks for, and cuBLASLt behind it.
//!
//! # Safety of this file
//! cuBLASLt reads and writes what the layouts say. Every layout is made from a [`Matrix`] whose last element was
//! shown to lie in its slice. Descriptors are destroyed exactly once, by their `Drop`; the workspace is used on one
//! stream only, where products follow one another.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::sys::CUdevice_attribute;
use cudarc::driver::{CudaStream, CudaView, CudaViewMut, DevicePtr, DevicePtrMut};
use half::bf16;

use super::device::{driver, unpanicked};
use super::memory::{Ledger, Tracked};
use crate::LossError;

/// A matrix on the device whose row `i` is `data[i * stride..][..cols]`, or the transpose of one.
#[derive(Debug)]
pub struct Matrix<'a, T> {
    /// The elements.
    pub data: CudaView<'a, T>,
    /// Rows as stored.
    pub rows: usize,
    /// Columns as stored.
    pub cols: usize,
    /// Elements from one stored row to the next.
    pub stride: usize,
    /// Whether the transpose is meant.
    pub transposed: bool,
}

/// A matrix on the device to be written, as [`Matrix`].
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    /// The elements.
    pub data: CudaViewMut<'a, T>,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Elements from one row to the next.
    pub stride: usize,
}

/// Products of matrices of `T` with sums and results in `f32`, on one stream.
pub trait Gemm<T> {
    /// The stream on which products run.
    fn stream(&self) -> &Arc<CudaStream>;

    /// `dst = lhs rhs`, or `dst += lhs rhs` if `accumulate`. What `dst` held is not read otherwise.
    ///
    /// # Errors
    /// [`LossError::Product`] for matrices that do not fit together, [`LossError::Length`] for slices that do not
    /// hold them, and what the device has to say.
    fn multiply(
        &self,
        dst: &mut MatrixMut<'_, f32>,
        accumulate: bool,
        lhs: &Matrix<'_, T>,
        rhs: &Matrix<'_, T>,
    ) -> Result<(), LossError>;
}

impl<'a, T> Matrix<'a, T> {
    /// `rows` rows of `cols` elements back to back.
    pub fn row_major(data: CudaView<'a, T>, rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, stride: cols, transposed: false }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    fn shape(&self) -> (usize, usize) {
        if self.transposed { (self.cols, self.rows) } else { (self.rows, self.cols) }
    }
}

/// cuBLASLt on a stream: `f32` (all of it, not TF32) or `bf16` operands, `f32` sums and results.
///
/// Sizes, strides and addresses may be odd, also in `bf16`: from cuBLAS 11.0 on, 8-bit types alone have restrictions (its
/// manual, "Tensor Core Usage"), and algorithms are chosen by the operands' real alignment. Multiples of 16 bytes are faster.
#[derive(Debug)]
pub struct CublasLt {
    handle: Handle,
    stream: Arc<CudaStream>,
    workspace: Tracked<u8>,
}

#[derive(Debug)]
struct Handle(sys::cublasLtHandle_t);

// SAFETY: cuBLASLt's handle may be used from any thread, by several at once (its manual, "Thread safety").
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: made by `create_handle`, destroyed only here. There is nobody to tell of an error.
        let _ = unpanicked(NAME, || unsafe { result::destroy_handle(self.0) });
    }
}

const NAME: &str = "cuBLASLt";

impl CublasLt {
    /// A handle for products on `stream`, with a workspace as NVIDIA recommends: 32 MiB from Hopper on, else 4 MiB.
    ///
    /// # Errors
    /// [`LossError::CudaLibrary`] without cuBLASLt, [`LossError::DeviceMemory`], [`LossError::Driver`].
    pub fn new(stream: &Arc<CudaStream>, ledger: &Ledger) -> Result<Self, LossError> {
        let major = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
        let major = driver("asking for the compute capability", || {
            stream.context().bind_to_thread()?;
            stream.context().attribute(major)
        })?;
        let handle = unpanicked(NAME, result::create_handle)?
            .map(Handle)
            .map_err(|error| LossError::CudaLibrary { name: NAME, detail: error.to_string() })?;
        let bytes = if major >= 9 { 32 << 20 } else { 4 << 20 };
        let workspace = ledger.alloc(stream, "workspace of cuBLASLt", bytes)?;
        Ok(Self { handle, stream: stream.clone(), workspace })
    }

    fn run<T>(
        &self,
        kind: sys::cudaDataType,
        dst: &mut MatrixMut<'_, f32>,
        accumulate: bool,
        lhs: &Matrix<'_, T>,
        rhs: &Matrix<'_, T>,
    ) -> Result<(), LossError> {
        let ((rows, inner), (rhs_rows, cols)) = (lhs.shape(), rhs.shape());
        if (rhs_rows, dst.rows, dst.cols) != (inner, rows, cols) || rows * inner * cols == 0 {
            return Err(LossError::Product {
                lhs_rows: rows,
                lhs_cols: inner,
                rhs_rows,
                rhs_cols: cols,
                dst_rows: dst.rows,
                dst_cols: dst.cols,
            });
        }
        check_within("lhs", lhs.rows, lhs.cols, lhs.stride, lhs.data.len())?;
        check_within("rhs", rhs.rows, rhs.cols, rhs.stride, rhs.data.len())?;
        check_within("dst", dst.rows, dst.cols, dst.stride, dst.data.len())?;
        let stream = &self.stream;
        driver("entering the device's context", || stream.context().bind_to_thread())?;
        let product = || -> Result<(), CublasError> {
            // cuBLASLt counts in columns: a stored row-major matrix is its transpose there, so dst^T = rhs^T lhs^T is
            // asked for.
            let description = Description::new()?;
            description
                .set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA, rhs.transposed)?;
            description
                .set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSB, lhs.transposed)?;
            let a = Layout::new(kind, rhs.rows, rhs.cols, rhs.stride)?;
            let b = Layout::new(kind, lhs.rows, lhs.cols, lhs.stride)?;
            let c = Layout::new(sys::cudaDataType_t::CUDA_R_32F, dst.rows, dst.cols, dst.stride)?;
            let (a_data, _read_a) = rhs.data.device_ptr(stream);
            let (b_data, _read_b) = lhs.data.device_ptr(stream);
            let (c_data, _write_c) = dst.data.device_ptr_mut(stream);
            let (workspace, _use_workspace) = self.workspace.device_ptr(stream);
            let preference = Preference::new(self.workspace.len(), [a_data, b_data, c_data])?;
            // SAFETY: all descriptors live.
            let best = unsafe {
                result::get_matmul_algo_heuristic(
                    self.handle.0,
                    description.0,
                    a.0,
                    b.0,
                    c.0,
                    c.0,
                    preference.0,
                )
            }?;
            let (alpha, beta) = (1f32, if accumulate { 1f32 } else { 0f32 });
            // SAFETY: the layouts lie in their slices (checked above), which the guards keep ordered with other
            // streams; scalars are `f32` as the description says and are read before the call returns; the workspace
            // holds what it says.
            unsafe {
                result::matmul(
                    self.handle.0,
                    description.0,
                    (&raw const alpha).cast(),
                    (&raw const beta).cast(),
                    a_data as *const c_void,
                    a.0,
                    b_data as *const c_void,
                    b.0,
                    c_data as *const c_void,
                    c.0,
                    c_data as *mut c_void,
                    c.0,
                    &best.algo,
                    workspace as *mut c_void,
                    self.workspace.len(),
                    stream.cu_stream().cast(),
                )
            }
        };
        unpanicked(NAME, product)?.map_err(|CublasError(status)| LossError::Cublas {
            rows,
            inner,
            cols,
            status: format!("{status:?}"),
            remedy: match status {
                sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED => {
                    "use f32 operands, or rows whose length is a multiple of 8"
                }
                sys::cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED => {
                    "lower the logits budget or the batch size"
                }
                _ => "see this status in cuBLAS's manual",
            },
        })
    }
}

/// Refuses a matrix that overlaps itself or leaves its slice.
fn check_within(
    what: &'static str,
    rows: usize,
    cols: usize,
    stride: usize,
    got: usize,
) -> Result<(), LossError> {
    if stride < cols {
        return Err(LossError::Strides { what, rows, cols, row_stride: stride, col_stride: 1 });
    }
    let want = (rows - 1).checked_mul(stride).and_then(|n| n.checked_add(cols));
    let want = want.ok_or(LossError::Overflow { what, rows, cols: stride })?;
    if got < want { Err(LossError::Length { what, want, got }) } else { Ok(()) }
}

macro_rules! gemm {
    ($type:ty, $kind:ident) => {
        impl Gemm<$type> for CublasLt {
            fn stream(&self) -> &Arc<CudaStream> {
                &self.stream
            }

            fn multiply(
                &self,
                dst: &mut MatrixMut<'_, f32>,
                accumulate: bool,
                lhs: &Matrix<'_, $type>,
                rhs: &Matrix<'_, $type>,
            ) -> Result<(), LossError> {
                self.run(sys::cudaDataType_t::$kind, dst, accumulate, lhs, rhs)
            }
        }
    };
}
gemm!(f32, CUDA_R_32F);
gemm!(bf16, CUDA_R_16BF);

/// What is to be computed.
struct Description(sys::cublasLtMatmulDesc_t);

impl Description {
    fn new() -> Result<Self, CublasError> {
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        result::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F).map(Self)
    }

    fn set(&self, attribute: sys::cublasLtMatmulDescAttributes_t, on: bool) -> Result<(), CublasError> {
        let value = i32::from(on);
        // SAFETY: transposes are 32-bit numbers (`cublasOperation_t`); the value is copied.
        unsafe {
            result::set_matmul_desc_attribute(self.0, attribute, (&raw const value).cast(), size_of::<i32>())
        }
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed only here.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// Where a matrix lies.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    /// Of a row-major matrix: to cuBLASLt, `cols x rows` in columns that are `stride` apart.
    fn new(kind: sys::cudaDataType, rows: usize, cols: usize, stride: usize) -> Result<Self, CublasError> {
        result::create_matrix_layout(kind, cols as u64, rows as u64, stride as i64).map(Self)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed only here.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// Which algorithms may be chosen.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    /// For operands at these addresses: without a word, cuBLASLt takes them to be aligned to 256 bytes.
    fn new(workspace: usize, [a, b, c]: [u64; 3]) -> Result<Self, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t::*;
        let it = result::create_matmul_pref().map(Self)?;
        it.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &(workspace as u64))?;
        it.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &alignment(a))?;
        it.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &alignment(b))?;
        it.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &alignment(c))?;
        it.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &alignment(c))?;
        Ok(it)
    }

    /// `T` must be the attribute's type: `u64` for bytes of workspace, `u32` for alignments.
    fn set<T>(
        &self,
        attribute: sys::cublasLtMatmulPreferenceAttributes_t,
        value: &T,
    ) -> Result<(), CublasError> {
        // SAFETY: the value has the size that is passed, and is copied.
        unsafe {
            result::set_matmul_pref_attribute(self.0, attribute, (&raw const *value).cast(), size_of::<T>())
        }
    }
}

/// Largest power of two up to 256 that divides `address`.
fn alignment(address: u64) -> u32 {
    1 << address.trailing_zeros().min(8)
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed only here.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignments_of_addresses() {
        let pairs =
            [(0x1000, 256), (0x1080, 128), (0x1010, 16), (0x100c, 4), (0x1002, 2), (0x1001, 1), (0, 256)];
        for (address, want) in pairs {
            assert_eq!(alignment(address), want);
        }
    }
}
