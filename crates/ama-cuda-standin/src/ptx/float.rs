//! Float arithmetic that Rust lacks: directed rounding, bf16 and f16, and approximate functions of bounded error.

/// How far approximate instructions are moved from the best value, and by which pattern.
///
/// A device's `ex2.approx` is good to about two units in the last place and no two generations agree, so nothing
/// may hang on its last bits. The shift depends only on the input bits and the seed: it is a function, as on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Approx {
    /// Largest shift in units in the last place.
    pub ulp: u32,
    /// Selects the pattern.
    pub seed: u64,
}

impl Approx {
    /// `best` moved by `-ulp..=ulp` steps, chosen by the input bits; zero, infinities, NaN and subnormals stay.
    #[must_use]
    pub fn shift(self, best: f32, input: u64) -> f32 {
        if self.ulp == 0 || !best.is_normal() {
            return best;
        }
        let width = 2 * u64::from(self.ulp) + 1;
        let step =
            (mix(input ^ self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)) % width) as i64 - i64::from(self.ulp);
        let moved = f32::from_bits((i64::from(best.to_bits()) + step) as u32);
        if moved.is_normal() { moved } else { best }
    }
}

/// A bijection of 64-bit words that scatters neighbours (the finaliser of SplitMix64, Steele et al. 2014).
#[must_use]
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Rounding towards one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    /// `.rz`.
    Zero,
    /// `.rm`.
    Down,
    /// `.rp`.
    Up,
}

/// The real number `high + low` as `f32`, rounded towards one side.
///
/// `high` is the sum's nearest `f64` and `low` what it misses, so the comparison below is exact.
#[must_use]
pub fn directed(high: f64, low: f64, towards: Towards) -> f32 {
    let near = high as f32;
    let rest = high - f64::from(near);
    let rest = if rest == 0.0 { low } else { rest };
    let negative = high < 0.0 || (high == 0.0 && low < 0.0);
    let down = match towards {
        Towards::Down => true,
        Towards::Up => false,
        Towards::Zero => !negative,
    };
    if rest < 0.0 && down {
        near.next_down()
    } else if rest > 0.0 && !down {
        near.next_up()
    } else {
        near
    }
}

/// `a + b` as the nearest `f64` and what it misses (Knuth's two-sum).
#[must_use]
pub fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let virtual_b = sum - a;
    (sum, (a - (sum - virtual_b)) + (b - virtual_b))
}

/// `a * b + c` rounded once towards one side; the product of two `f32` is exact in `f64`.
#[must_use]
pub fn fma_directed(a: f32, b: f32, c: f32, towards: Towards) -> f32 {
    let (high, low) = two_sum(f64::from(a) * f64::from(b), f64::from(c));
    directed(high, if low.is_nan() { 0.0 } else { low }, towards)
}

/// `2^x` as the nearest `f32`, or within a hair of a tie.
///
/// `2^x = 2^n 2^r`, `|r| <= 1/2`, by the exponential series of `r ln 2` to order 13 in `f64` (error below 2e-17).
#[must_use]
pub fn exp2(x: f32) -> f32 {
    /// `1/k!` for k = 13 down to 0.
    const SERIES: [f64; 14] = {
        let mut series = [1.0; 14];
        let mut k = 1;
        while k < 14 {
            series[13 - k] = series[14 - k] / k as f64;
            k += 1;
        }
        series
    };
    /// Adding and subtracting it rounds to an integer.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    // NaN passes `clamp` and comes out of the series as NaN.
    let x = f64::from(x).clamp(-200.0, 200.0);
    let n = (x + ROUND) - ROUND;
    let t = (x - n) * std::f64::consts::LN_2;
    let sum = SERIES.iter().fold(0.0, |sum, c| sum * t + c);
    let scale = f64::from_bits(((n as i64 + 1023) as u64) << 52);
    (sum * scale) as f32
}

/// bf16 to `f32`: exact.
#[must_use]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// `f32` to the nearest bf16, ties to even; NaN becomes the canonical 0x7fff.
#[must_use]
pub fn f32_to_bf16(x: f32) -> u16 {
    if x.is_nan() {
        return 0x7fff;
    }
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// `f32` to bf16 towards zero; NaN becomes the canonical 0x7fff.
#[must_use]
pub fn f32_to_bf16_rz(x: f32) -> u16 {
    if x.is_nan() { 0x7fff } else { (x.to_bits() >> 16) as u16 }
}

/// f16 to `f32`: exact.
#[must_use]
pub fn f16_to_f32(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f32::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if bits & 0x3ff == 0 => f32::INFINITY,
        31 => f32::NAN,
        e => (1024.0 + fraction) * 2f32.powi(e - 25),
    };
    if sign == 1 { -size } else { size }
}

/// `f32` to the nearest f16, ties to even; NaN becomes the canonical 0x7fff.
#[must_use]
pub fn f32_to_f16(x: f32) -> u16 {
    if x.is_nan() {
        return 0x7fff;
    }
    let sign = ((x.to_bits() >> 16) & 0x8000) as u16;
    let size = x.abs();
    if size >= 65520.0 {
        return sign | 0x7c00;
    }
    // Units of the last place at this size; scaling by a power of two is exact, and `round_ties_even` rounds once.
    let exponent = ((size.to_bits() >> 23) as i32 - 127).max(-14);
    let units = (f64::from(size) * 2f64.powi(10 - exponent)).round_ties_even() as u32;
    // A carry out of the fraction moves into the exponent by itself.
    sign | (((exponent + 14) as u32) * 1024 + units) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp2_is_the_nearest_value() {
        let mut wrong = 0;
        for i in -15_100_000..13_000_000 {
            if i % 97 != 0 {
                continue;
            }
            let x = i as f32 * 1e-5;
            let want = f64::from(x).exp2() as f32;
            let got = exp2(x);
            assert!(
                got == want || got == want.next_up() || got == want.next_down(),
                "2^{x}: {got} for {want}"
            );
            wrong += u32::from(got != want);
        }
        assert!(wrong <= 1, "{wrong} values miss the nearest");
        assert_eq!(exp2(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp2(f32::INFINITY), f32::INFINITY);
        assert_eq!(
            (exp2(0.0), exp2(-149.0), exp2(127.0), exp2(128.0)),
            (1.0, 1e-45, 2f32.powi(127), f32::INFINITY)
        );
        assert!(exp2(f32::NAN).is_nan());
    }

    #[test]
    fn directed_rounding_brackets_the_real_value() {
        let values = [1.0f32, -1.0, 1e-8, -3e-8, 16_777_216.0, 0.1, -0.3, 1e30, -1e-30, 0.0];
        for a in values {
            for b in values {
                for c in values {
                    let [zero, down, up] =
                        [Towards::Zero, Towards::Down, Towards::Up].map(|t| fma_directed(a, b, c, t));
                    let near = a.mul_add(b, c);
                    assert!(down <= near && near <= up, "{a} * {b} + {c}: {down} {near} {up}");
                    assert!(down == up || down.next_up() == up, "{a} * {b} + {c}: {down} {up}");
                    assert_eq!(zero, if near > 0.0 || (near == 0.0 && up > 0.0) { down } else { up });
                }
            }
        }
        assert_eq!(fma_directed(1.0, 1.0, 1e-30, Towards::Up), 1f32.next_up());
        assert_eq!(fma_directed(1.0, 1.0, -1e-30, Towards::Zero), 1f32.next_down());
    }

    #[test]
    fn sixteen_bit_floats_round_to_nearest_even() {
        for bits in 0..=u16::MAX {
            let (h, b) = (f16_to_f32(bits), bf16_to_f32(bits));
            assert!(h.is_nan() || f32_to_f16(h) == bits, "f16 {bits:#x}");
            assert!(b.is_nan() || f32_to_bf16(b) == bits, "bf16 {bits:#x}");
        }
        assert_eq!(f32_to_bf16(1.0 + 2f32.powi(-8)), 0x3f80, "a tie goes to even");
        assert_eq!(f32_to_bf16(1.0 + 3.0 * 2f32.powi(-8)), 0x3f82, "a tie goes to even");
        assert_eq!(f32_to_f16(1.0 + 2f32.powi(-11)), 0x3c00, "a tie goes to even");
        assert_eq!(f32_to_f16(1.0 + 3.0 * 2f32.powi(-11)), 0x3c02, "a tie goes to even");
        assert_eq!(
            (f32_to_f16(65519.0), f32_to_f16(65520.0), f32_to_f16(f32::MIN_POSITIVE)),
            (0x7bff, 0x7c00, 0)
        );
        assert_eq!(f32_to_bf16(f32::NAN), 0x7fff);
    }

    #[test]
    fn shifts_stay_in_range_and_use_all_of_it() {
        let approx = Approx { ulp: 2, seed: 7 };
        let mut seen = [0u32; 5];
        for i in 0..10_000u64 {
            let got = approx.shift(1.5, i);
            assert_eq!(got, approx.shift(1.5, i), "a function of the input");
            seen[(got.to_bits() as i32 - 1.5f32.to_bits() as i32 + 2) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| n > 1500), "{seen:?}");
        assert_eq!(approx.shift(0.0, 3), 0.0);
        assert_eq!(Approx::default().shift(1.5, 3), 1.5);
    }
}
