//! Arithmetic on one tensor, chunk by chunk. Every chunk depends on its place only, and sums over chunks are added in order, so
//! that the number of threads changes no bit.

pub(crate) mod combine;
pub(crate) mod gram;
pub(crate) mod philox;
pub(crate) mod sparsify;
pub(crate) mod sphere;
pub(crate) mod task_vectors;

use std::ops::Range;

use rayon::prelude::*;

use crate::dtype::WeightDtype;

/// Elements of a chunk: 64 KiB of f32, so that a chunk of each of a few models fits the second-level cache.
pub(crate) const CHUNK: usize = 1 << 14;

/// One model's values of the tensor, as they lie on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) dtype: WeightDtype,
}

impl Values<'_> {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.dtype.bytes()
    }

    /// Elements of `range` as f32.
    #[inline(always)]
    pub(crate) fn read(&self, range: &Range<usize>, out: &mut [f32]) {
        let size = self.dtype.bytes();
        self.dtype.widen(&self.bytes[range.start * size..range.end * size], out);
    }
}

/// `model - base` over `range`; `out` and `scratch` are as long as the range.
#[inline(always)]
pub(crate) fn read_delta(
    base: &Values<'_>,
    model: &Values<'_>,
    range: &Range<usize>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    base.read(range, scratch);
    model.read(range, out);
    for (out, base) in out.iter_mut().zip(scratch.iter()) {
        *out -= base;
    }
}

/// Ranges of `len` elements, the last one shorter, that together are `0..total`.
pub(crate) fn chunks(total: usize, len: usize) -> impl IndexedParallelIterator<Item = Range<usize>> {
    (0..total.div_ceil(len)).into_par_iter().map(move |i| i * len..((i + 1) * len).min(total))
}

/// Runs `work` compiled for the widest vector registers of this machine; what it calls has to be `#[inline(always)]`. Rust
/// never fuses or reorders floating-point operations, so that the result is the same on every machine.
#[inline(always)]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}
