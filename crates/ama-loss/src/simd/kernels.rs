//! The loops themselves, each compiled for every instruction set.
//!
//! # Safety
//!
//! The bodies are safe Rust, but for prefetches, which have no effect that a program could see. `unsafe` is otherwise only
//! in the call of a variant that was compiled with `#[target_feature]`,
//! which is undefined behaviour on a machine without those features. The variant is picked by [`Isa`], and an `Isa`
//! of that level only exists after `is_x86_feature_detected!` said yes to each of the same features (`isa.rs`, whose
//! lists must stay equal to the two below).
#![allow(unsafe_code, reason = "calls of #[target_feature] variants; see the file's safety argument")]

use super::isa::{Isa, Level};

/// Defines `fn name(isa, args..)` whose body is compiled for AVX-512, AVX2 + FMA and the baseline. Inside, `FMA` is a
/// constant that says whether a fused multiply-add is one instruction.
macro_rules! dispatched {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        pub(crate) fn $name(isa: Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<const FMA: bool>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                body::<true>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                body::<true>($($arg),*)
            }

            match isa.level() {
                // SAFETY: an `Isa` of this level exists only if all of these features were detected.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2($($arg),*) },
                Level::Portable => body::<{ cfg!(target_arch = "aarch64") }>($($arg),*),
            }
        }
    };
}

/// Lanes that run side by side: two AVX-512 registers, four AVX2 ones.
const LANES: usize = 32;

/// Elements summed in `f32` before the sum goes on in `f64`; they stay in the first-level cache.
const BLOCK: usize = 1024;

/// `a * b + c`, fused where that is an instruction.
#[inline(always)]
fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `e^x`, 0 below [`EXP_MIN`], infinity above [`EXP_MAX`], NaN for NaN; branch-free.
///
/// `x = n ln 2 + f`, `|f| <= ln(2)/2`; `e^f` by Cephes' degree-6 polynomial (`expf.c`, Moshier), `2^n` put together from
/// its bits.
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    /// Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts; n times the first is exact.
    let f = fma::<FMA>(n, -0.693_359_4, x);
    let f = fma::<FMA>(n, 2.121_944_4e-4, f);
    let mut p = 1.987_569_1e-4;
    p = fma::<FMA>(p, f, 1.398_199_9e-3);
    p = fma::<FMA>(p, f, 8.333_452e-3);
    p = fma::<FMA>(p, f, 4.166_579_6e-2);
    p = fma::<FMA>(p, f, 1.666_666_5e-1);
    p = fma::<FMA>(p, f, 0.5);
    let p = fma::<FMA>(p * f, f, f) + 1.0;
    // 2^(n-1), doubled at the end: n is up to 128, which has no f32.
    let half = f32::from_bits((shifted.to_bits() << 23).wrapping_add(126 << 23));
    let y = p * half;
    let y = y + y;
    let y = if x < EXP_MIN { 0.0 } else { y };
    if x > EXP_MAX { f32::INFINITY } else { y }
}

/// Below this, `e^x` is 0: the least `x` whose `2^(n-1)` is a normal number.
const EXP_MIN: f32 = -86.6;
/// Above this, `e^x` is infinite: `ln(f32::MAX)`.
const EXP_MAX: f32 = 88.722_83;

/// Adds the lanes up in a fixed tree.
#[inline(always)]
fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Asks for the first `count` elements of `x`, which are read soon.
#[inline(always)]
fn expect(x: &[f32], count: usize) {
    /// Elements of a cache line.
    const LINE: usize = 16;
    #[cfg(target_arch = "x86_64")]
    for line in x[..count.min(x.len())].chunks(LINE) {
        // SAFETY: a prefetch reads nothing; any address may be named, and this one is inside of the slice.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast());
        }
    }
}

/// Largest element, NaN ignored.
#[inline(always)]
fn max_of(x: &[f32]) -> f32 {
    let (chunks, tail) = x.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for c in chunks {
        for i in 0..LANES {
            lanes[i] = if c[i] > lanes[i] { c[i] } else { lanes[i] };
        }
    }
    let mut most = f32::NEG_INFINITY;
    for v in lanes.iter().chain(tail) {
        most = if *v > most { *v } else { most };
    }
    most
}

/// `sum e^(x - shift)`.
#[inline(always)]
fn sum_exp<const FMA: bool>(x: &[f32], shift: f32) -> f32 {
    let (chunks, tail) = x.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for c in chunks {
        for i in 0..LANES {
            lanes[i] += exp::<FMA>(c[i] - shift);
        }
    }
    let mut rest = 0.0;
    for v in tail {
        rest += exp::<FMA>(*v - shift);
    }
    add_lanes(lanes) + rest
}

dispatched! {
    /// `x <- e^x`.
    fn exp_in_place(x: &mut [f32]) {
        for v in x.iter_mut() {
            *v = exp::<FMA>(*v);
        }
    }
}

dispatched! {
    /// Sum of all elements.
    fn sum(x: &[f32]) -> f64 {
        let mut total = 0.0;
        for block in x.chunks(BLOCK) {
            let (chunks, tail) = block.as_chunks::<LANES>();
            let mut lanes = [0.0; LANES];
            for c in chunks {
                for i in 0..LANES {
                    lanes[i] += c[i];
                }
            }
            total += f64::from(add_lanes(lanes) + tail.iter().sum::<f32>());
        }
        total
    }
}

dispatched! {
    /// Largest element, NaN ignored.
    fn max(x: &[f32]) -> f32 {
        max_of(x)
    }
}

dispatched! {
    /// Takes `x` into the running `max` and `sum e^(x - max)`.
    fn online_lse(x: &[f32], max: f32, sum: f64) -> (f32, f64) {
        let (mut max, mut sum) = (max, sum);
        for (i, block) in x.chunks(BLOCK).enumerate() {
            // The maximum waits for memory and the exponentials do not: without this, memory would wait for them.
            expect(x.get((i + 1) * BLOCK..).unwrap_or_default(), BLOCK);
            let most = max_of(block);
            if most > max {
                // The first block has nothing to rescale; e^(-inf - most) would do, but not if most is +inf.
                if sum != 0.0 {
                    sum *= (f64::from(max) - f64::from(most)).exp();
                }
                max = most;
            }
            // A row of -inf so far: any finite shift gives the exact sum 0, and keeps NaN.
            let shift = if max == f32::NEG_INFINITY { 0.0 } else { max };
            sum += f64::from(sum_exp::<FMA>(block, shift));
        }
        (max, sum)
    }
}

dispatched! {
    /// `x <- scale e^(x - lse)`; the log-sum-exp comes as a sum `high + low` of floats, because one float would
    /// cost `|lse| 6e-8` of relative error.
    fn scaled_softmax_in_place(x: &mut [f32], high: f32, low: f32, scale: f32) {
        for v in x.iter_mut() {
            *v = scale * exp::<FMA>((*v - high) - low);
        }
    }
}

dispatched! {
    /// `out <- scale e^(x - lse)`, as [`scaled_softmax_in_place`]; equal lengths.
    fn scaled_softmax(x: &[f32], out: &mut [f32], high: f32, low: f32, scale: f32) {
        for (out, v) in out.iter_mut().zip(x) {
            *out = scale * exp::<FMA>((*v - high) - low);
        }
    }
}
