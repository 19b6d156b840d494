//! What every launch checks and chooses: where slices lie, how large the grid and its blocks are, which arguments it
//! has.
//!
//! # Safety of this file
//! [`Launch::run`] passes its contract on to the caller.
#![allow(unsafe_code)]

use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, CudaView, CudaViewMut, DeviceSlice, LaunchArgs,
    LaunchConfig, PushKernelArg,
};

use super::device::driver;
use crate::LossError;
use crate::error::check_len;

/// A launch whose arguments are being put together.
pub(super) struct Launch<'a> {
    arguments: LaunchArgs<'a>,
    #[cfg(feature = "cuda-tests")]
    function: &'a CudaFunction,
    #[cfg(feature = "cuda-tests")]
    bytes: Vec<usize>,
}

/// What a kernel takes: a pointer, as a slice or a view, or a number.
pub(super) trait Argument {
    /// Bytes of the parameter.
    #[cfg_attr(not(feature = "cuda-tests"), expect(dead_code, reason = "compared with the PTX by the tests"))]
    const BYTES: usize;
}

impl<T> Argument for &CudaSlice<T> {
    const BYTES: usize = 8;
}
impl<T> Argument for &mut CudaSlice<T> {
    const BYTES: usize = 8;
}
impl<T> Argument for &CudaView<'_, T> {
    const BYTES: usize = 8;
}
impl<T> Argument for &mut CudaViewMut<'_, T> {
    const BYTES: usize = 8;
}
impl Argument for &u32 {
    const BYTES: usize = 4;
}
impl Argument for &u64 {
    const BYTES: usize = 8;
}
impl Argument for &f64 {
    const BYTES: usize = 8;
}

impl<'a> Launch<'a> {
    pub(super) fn new(stream: &'a CudaStream, function: &'a CudaFunction) -> Self {
        Self {
            arguments: stream.launch_builder(function),
            #[cfg(feature = "cuda-tests")]
            function,
            #[cfg(feature = "cuda-tests")]
            bytes: Vec::new(),
        }
    }

    /// Adds the next argument.
    pub(super) fn arg<A: Argument>(&mut self, argument: A) -> &mut Self
    where
        LaunchArgs<'a>: PushKernelArg<A>,
    {
        self.arguments.arg(argument);
        #[cfg(feature = "cuda-tests")]
        self.bytes.push(A::BYTES);
        self
    }

    /// Enqueues the kernel.
    ///
    /// # Safety
    /// The arguments must be those of the kernel, in order, and the kernel must touch no element that its slices
    /// lack.
    pub(super) unsafe fn run(mut self, doing: &'static str, config: LaunchConfig) -> Result<(), LossError> {
        #[cfg(feature = "cuda-tests")]
        assert_signature(self.function, &self.bytes);
        // SAFETY: the caller vouches for the arguments.
        driver(doing, || unsafe { self.arguments.launch(config) })?;
        Ok(())
    }
}

/// Panics if the kernel does not take arguments of these sizes. Drivers before CUDA 12.4 cannot say.
#[cfg(feature = "cuda-tests")]
fn assert_signature(function: &CudaFunction, bytes: &[usize]) {
    use cudarc::driver::sys::{CUfunction, CUresult, culib};
    type ParamInfo = unsafe extern "C" fn(CUfunction, usize, *mut usize, *mut usize) -> CUresult;
    // SAFETY: the driver's library stays loaded, and this is the function's type (CUDA driver API).
    let Ok(info) = (unsafe { culib().get::<ParamInfo>(b"cuFuncGetParamInfo\0") }) else {
        return;
    };
    for index in 0..=bytes.len() {
        let (mut offset, mut size) = (0, 0);
        // SAFETY: the function lives, and the addresses are valid.
        let status = unsafe { info(function.cu_function(), index, &mut offset, &mut size) };
        let got = (status == CUresult::CUDA_SUCCESS).then_some(size);
        assert_eq!(got, bytes.get(index).copied(), "size of argument {index} of {}", bytes.len());
    }
}

/// Threads of a warp; block sizes are multiples of it.
const WARP: usize = 32;
/// Most threads of a block of the kernels that take a block per row (their `__launch_bounds__`).
const ROW_THREADS: usize = 512;
/// Bytes that a thread loads at once.
const WIDE_BYTES: usize = 16;

/// A slice that the kernels can reach, with exactly `want` elements.
pub(super) fn check_slice<T>(
    context: &CudaContext,
    what: &'static str,
    slice: &impl DeviceSlice<T>,
    want: usize,
) -> Result<(), LossError> {
    check_device(context, what, slice)?;
    check_len(what, slice.len(), want)
}

/// A slice that the kernels can reach.
pub(super) fn check_device<T>(
    context: &CudaContext,
    what: &'static str,
    slice: &impl DeviceSlice<T>,
) -> Result<(), LossError> {
    let other = slice.stream().context();
    if **other == *context {
        Ok(())
    } else {
        Err(LossError::OtherDevice { what, want: context.ordinal(), got: other.ordinal() })
    }
}

/// A size as a kernel takes it: below 2^31, so that sums of two do not wrap around and a grid can be as large.
pub(super) fn size(what: &'static str, n: usize) -> Result<u32, LossError> {
    const MOST: usize = i32::MAX as usize;
    if n > MOST { Err(LossError::TooMany { what, got: n, most: MOST }) } else { Ok(n as u32) }
}

/// One block per row of `vocab` elements of `T`, with no more threads than have something to load.
pub(super) fn per_row<T>(rows: u32, vocab: u32) -> LaunchConfig {
    let loads = (vocab as usize * size_of::<T>()).div_ceil(WIDE_BYTES);
    let threads = loads.next_multiple_of(WARP).clamp(WARP, ROW_THREADS);
    config(rows, threads as u32)
}

/// One thread per element, in blocks of `threads`.
pub(super) fn per_element(n: u32, threads: u32) -> LaunchConfig {
    config(n.div_ceil(threads), threads)
}

pub(super) fn config(blocks: u32, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_whole_warps_within_the_bounds() {
        for (vocab, f32_threads, bf16_threads) in [
            (1, 32, 32),
            (128, 32, 32),
            (132, 64, 32),
            (1025, 288, 160),
            (2048, 512, 256),
            (262_144, 512, 512),
        ] {
            assert_eq!(per_row::<f32>(7, vocab).block_dim, (f32_threads, 1, 1), "f32 {vocab}");
            assert_eq!(per_row::<u16>(7, vocab).block_dim, (bf16_threads, 1, 1), "bf16 {vocab}");
            assert_eq!(per_row::<f32>(7, vocab).grid_dim, (7, 1, 1));
        }
        assert_eq!(per_element(257, 128).grid_dim, (3, 1, 1));
    }

    #[test]
    fn sizes_stop_before_they_wrap() {
        assert_eq!(size("rows", (1 << 31) - 1), Ok(0x7fff_ffff));
        let most = i32::MAX as usize;
        assert_eq!(size("rows", 1 << 31), Err(LossError::TooMany { what: "rows", got: 1 << 31, most }));
    }
}
