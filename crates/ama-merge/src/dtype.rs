//! The three element types of weights and their conversion to and from f32, block by block.
//!
//! f16 and bf16 widen to f32 exactly; narrowing rounds to nearest, ties to even, as PyTorch does.

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use safetensors::Dtype;

/// Element type of weights on disk. The arithmetic is in f32 (sums of many terms in f64) whichever is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightDtype {
    /// 32-bit floats.
    F32,
    /// IEEE half precision: 11 significant bits, largest value 65504.
    F16,
    /// bfloat16: 8 significant bits, the range of f32.
    Bf16,
}

impl WeightDtype {
    /// The name in `config.json` and in mergekit configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::F32, Self::F16, Self::Bf16].into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes of one element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    pub(crate) fn to_safetensors(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    pub(crate) fn from_safetensors(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Little-endian bytes, at any alignment, to f32. Exact.
    #[inline(always)]
    pub(crate) fn widen(self, bytes: &[u8], out: &mut [f32]) {
        debug_assert_eq!(bytes.len(), out.len() * self.bytes());
        match self {
            Self::F32 => {
                for (out, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *out = f32::from_le_bytes(*b);
                }
            }
            Self::Bf16 => {
                for (out, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *out = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                }
            }
            Self::F16 => {
                // Through a small aligned buffer, so that the hardware's conversion of blocks can be used.
                let mut aligned = [f16::ZERO; 256];
                for (out, bytes) in out.chunks_mut(256).zip(bytes.as_chunks::<2>().0.chunks(256)) {
                    for (h, b) in aligned.iter_mut().zip(bytes) {
                        *h = f16::from_le_bytes(*b);
                    }
                    aligned[..out.len()].convert_to_f32_slice(out);
                }
            }
        }
    }

    /// f32 to little-endian bytes, rounded to nearest even. A finite value beyond the range becomes infinite.
    #[inline(always)]
    pub(crate) fn narrow(self, values: &[f32], out: &mut [u8]) {
        debug_assert_eq!(out.len(), values.len() * self.bytes());
        match self {
            Self::F32 => {
                for (out, v) in out.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                    *out = v.to_le_bytes();
                }
            }
            Self::Bf16 => {
                for (out, v) in out.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                    *out = round_to_bf16(*v).to_le_bytes();
                }
            }
            Self::F16 => {
                let mut half = [f16::ZERO; 256];
                for (out, v) in out.as_chunks_mut::<2>().0.chunks_mut(256).zip(values.chunks(256)) {
                    half[..v.len()].convert_from_f32_slice(v);
                    for (out, h) in out.iter_mut().zip(&half) {
                        *out = h.to_le_bytes();
                    }
                }
            }
        }
    }

    /// Whether the value is finite in this type after rounding.
    #[inline(always)]
    pub(crate) fn holds(self, value: f32) -> bool {
        value.to_bits() & 0x7fff_ffff < self.limit()
    }

    /// Bits of the smallest positive f32 that rounds to infinity: halfway between the largest value and the next power of
    /// two, where the tie goes to the even one. Bits of infinities and NaN are at or above it.
    #[inline(always)]
    fn limit(self) -> u32 {
        match self {
            Self::F32 => f32::INFINITY.to_bits(),
            Self::F16 => 65_520f32.to_bits(),
            Self::Bf16 => 0x7f7f_8000,
        }
    }
}

/// Bits of the nearest bfloat16, ties to even; without branches, so that loops over it use vector registers. NaN may come
/// out as infinity: callers refuse what is not finite before they narrow.
#[inline(always)]
fn round_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let even = (bits >> 16) & 1;
    (bits.wrapping_add(0x7fff + even) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    /// Every one of the 65536 bit patterns widens as the `half` crate says, and comes back as itself.
    #[test]
    fn every_half_value_survives() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        // One byte in front of it: the alignment in the file must not matter.
        let shifted: Vec<u8> = std::iter::once(0).chain(bytes.iter().copied()).collect();
        for (dtype, one) in [
            (WeightDtype::F16, (|b| f16::from_bits(b).to_f32()) as fn(u16) -> f32),
            (WeightDtype::Bf16, |b| bf16::from_bits(b).to_f32()),
        ] {
            let mut wide = vec![0.0; 1 << 16];
            dtype.widen(&shifted[1..], &mut wide);
            let mut back = vec![0u8; 1 << 17];
            dtype.narrow(&wide, &mut back);
            for ((bits, got), back) in (0..=u16::MAX).zip(&wide).zip(back.as_chunks::<2>().0) {
                let want = one(bits);
                assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{bits:#06x}");
                assert!(want.is_nan() || u16::from_le_bytes(*back) == bits, "{bits:#06x}");
                assert_eq!(dtype.holds(want), want.is_finite(), "{bits:#06x}");
            }
        }
    }

    #[test]
    fn narrowing_agrees_with_the_half_crate_between_the_values() {
        let mut state = 1u32;
        for _ in 0..200_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f32::from_bits(state);
            if value.is_nan() {
                continue;
            }
            assert_eq!(round_to_bf16(value), bf16::from_f32(value).to_bits(), "{value:e}");
            assert_eq!(WeightDtype::Bf16.holds(value), bf16::from_f32(value).is_finite(), "{value:e}");
            assert_eq!(WeightDtype::F16.holds(value), f16::from_f32(value).is_finite(), "{value:e}");
        }
        for value in [65_519.99, 65_520.0, -65_520.0, 65_504.0, f32::MAX, f32::NAN, f32::INFINITY] {
            assert_eq!(WeightDtype::F16.holds(value), f16::from_f32(value).is_finite(), "{value:e}");
            assert_eq!(WeightDtype::Bf16.holds(value), bf16::from_f32(value).is_finite(), "{value:e}");
        }
    }
}
