//! The three element types of weights, and their conversion to and from f32.
//!
//! f16 and bf16 widen to f32 exactly. Narrowing rounds to nearest, ties to even, as PyTorch does. Both run on
//! rayon's threads over fixed blocks; every element is independent, so the result never depends on threads.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// Elements per rayon task.
const BLOCK: usize = 1 << 15;

/// Element type of weights on disk. Mathematics is in f32 whichever is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveDtype {
    /// 32-bit floats: nothing is lost.
    F32,
    /// IEEE half precision: 11 significant bits, largest value 65504.
    F16,
    /// bfloat16: 8 significant bits, the range of f32.
    Bf16,
}

impl SaveDtype {
    /// The name in `config.json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// Bytes of one element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    pub(super) fn to_safetensors(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    pub(super) fn from_safetensors(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }
}

/// Little-endian bytes of `dtype`, at any alignment, to f32. Exact. `bytes` must be whole elements.
pub(super) fn widen(dtype: SaveDtype, bytes: &[u8]) -> Vec<f32> {
    let size = dtype.bytes();
    debug_assert!(bytes.len().is_multiple_of(size));
    let mut out = vec![0.0f32; bytes.len() / size];
    out.par_chunks_mut(BLOCK).zip(bytes.par_chunks(BLOCK * size)).for_each(|(out, bytes)| match dtype {
        SaveDtype::F32 => {
            for (out, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *out = f32::from_le_bytes(*b);
            }
        }
        SaveDtype::F16 => {
            // Through a small aligned buffer, so that the hardware's block conversion can be used.
            let mut aligned = [f16::ZERO; 256];
            for (out, bytes) in out.chunks_mut(256).zip(bytes.as_chunks::<2>().0.chunks(256)) {
                for (h, b) in aligned.iter_mut().zip(bytes) {
                    *h = f16::from_le_bytes(*b);
                }
                aligned[..out.len()].convert_to_f32_slice(out);
            }
        }
        SaveDtype::Bf16 => {
            for (out, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            }
        }
    });
    out
}

/// f32 to the little-endian bytes of `dtype`, rounded to nearest even.
pub(super) fn narrow(dtype: SaveDtype, values: &[f32]) -> Vec<u8> {
    let size = dtype.bytes();
    let mut out = vec![0u8; values.len() * size];
    out.par_chunks_mut(BLOCK * size).zip(values.par_chunks(BLOCK)).for_each(|(out, values)| match dtype {
        SaveDtype::F32 => {
            for (out, v) in out.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                *out = v.to_le_bytes();
            }
        }
        SaveDtype::F16 => {
            for (out, v) in out.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                *out = f16::from_f32(*v).to_le_bytes();
            }
        }
        SaveDtype::Bf16 => {
            for (out, v) in out.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                *out = bf16::from_f32(*v).to_le_bytes();
            }
        }
    });
    out
}

/// Index of the first value that is NaN or infinite.
///
/// One pass over memory: a block is summed up without branches, and searched only if something is wrong with it.
pub(crate) fn first_non_finite(values: &[f32]) -> Option<usize> {
    let broken = |block: &[f32]| !block.iter().fold(true, |sound, v| sound & v.is_finite());
    let block = values.par_chunks(BLOCK).position_first(broken)?;
    let start = block * BLOCK;
    values[start..].iter().position(|v| !v.is_finite()).map(|offset| start + offset)
}

/// [`first_non_finite`] of f32 values as they lie in a file, without a copy of them.
pub(super) fn first_non_finite_in(bytes: &[u8]) -> Option<usize> {
    let finite = |b: &[u8; 4]| f32::from_le_bytes(*b).is_finite();
    let broken = |block: &[u8]| !block.as_chunks::<4>().0.iter().fold(true, |sound, b| sound & finite(b));
    let start = bytes.par_chunks(BLOCK * size_of::<f32>()).position_first(broken)? * BLOCK;
    let values = bytes.as_chunks::<4>().0;
    values[start..].iter().position(|b| !finite(b)).map(|offset| start + offset)
}

/// Index along each axis of the element number `flat` of a row-major tensor.
pub(crate) fn position(shape: &[usize], mut flat: usize) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (at, &side) in index.iter_mut().zip(shape).rev() {
        let side = side.max(1);
        (*at, flat) = (flat % side, flat / side);
    }
    index
}

/// The first finite value that narrowing would turn into an infinity.
pub(super) fn first_overflow(dtype: SaveDtype, values: &[f32]) -> Option<f32> {
    let overflows = |v: &f32| {
        v.is_finite()
            && match dtype {
                SaveDtype::F32 => false,
                SaveDtype::F16 => f16::from_f32(*v).is_infinite(),
                SaveDtype::Bf16 => bf16::from_f32(*v).is_infinite(),
            }
    };
    match dtype {
        SaveDtype::F32 => None,
        _ => values.par_iter().copied().find_first(overflows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every one of the 65536 bit patterns widens as the `half` crate says, and comes back as itself.
    #[test]
    fn every_half_value_survives() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        // One byte in front of it: the file's alignment must not matter.
        let shifted: Vec<u8> = std::iter::once(0).chain(bytes.iter().copied()).collect();
        for (dtype, one) in [
            (SaveDtype::F16, (|b| f16::from_bits(b).to_f32()) as fn(u16) -> f32),
            (SaveDtype::Bf16, |b| bf16::from_bits(b).to_f32()),
        ] {
            let wide = widen(dtype, &shifted[1..]);
            for (bits, got) in (0..=u16::MAX).zip(&wide) {
                let want = one(bits);
                assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{bits:#06x}");
            }
            for (bits, (got, v)) in
                (0..=u16::MAX).zip(narrow(dtype, &wide).as_chunks::<2>().0.iter().zip(&wide))
            {
                assert!(v.is_nan() || u16::from_le_bytes(*got) == bits, "{bits:#06x}");
            }
        }
    }

    #[test]
    fn the_first_broken_value_is_found_in_any_block() {
        let mut values = vec![1.0f32; 3 * BLOCK + 5];
        assert_eq!(first_non_finite(&values), None);
        for at in [3 * BLOCK + 4, 2 * BLOCK, BLOCK - 1, 0] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                values[at] = bad;
                assert_eq!(first_non_finite(&values), Some(at));
                assert_eq!(first_non_finite_in(&narrow(SaveDtype::F32, &values)), Some(at));
            }
        }
        assert_eq!((first_non_finite(&[]), first_non_finite_in(&[])), (None, None));
        assert_eq!(position(&[3, 4, 5], 2 * 20 + 3 * 5 + 4), [2, 3, 4]);
        assert_eq!(position(&[7], 6), [6]);
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        // 1 + 2^-8 is halfway between the bf16 neighbours 1 and 1 + 2^-7; even is 1.
        let halfway = 1.0 + 2f32.powi(-8);
        assert_eq!(widen(SaveDtype::Bf16, &narrow(SaveDtype::Bf16, &[halfway])), [1.0]);
        assert_eq!(
            first_overflow(SaveDtype::F16, &[1.0, 65_519.0, -65_520.0, f32::INFINITY]),
            Some(-65_520.0)
        );
        assert_eq!(first_overflow(SaveDtype::Bf16, &[f32::MAX]), Some(f32::MAX));
        assert_eq!(first_overflow(SaveDtype::F32, &[f32::MAX]), None);
    }
}
