//! What every launch checks and chooses: where slices lie, how large the grid and its blocks are.

use cudarc::driver::{CudaContext, DeviceSlice, LaunchConfig};

use crate::LossError;
use crate::error::check_len;

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
        for (vocab, f32_threads, bf16_threads) in
            [(1, 32, 32), (128, 32, 32), (132, 64, 32), (1025, 288, 160), (2048, 512, 256), (262_144, 512, 512)]
        {
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
