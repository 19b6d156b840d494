//! One loop, compiled three times: AVX-512, AVX2 + FMA and portable, chosen when the program runs.
//!
//! `pulp` (which `gemm` brings anyway) detects the machine once and calls a function whose target features
//! are switched on; the loops below are plain Rust that the compiler vectorises there. No intrinsics and no
//! `unsafe` of ours. Results may differ in the last bit between machines, never between runs on one machine.

use pulp::Simd;

/// Defines a function whose body is compiled for every instruction set. Inside, `S` names the chosen one, to
/// be handed to [`fma`] and [`exp`]. References must be written with the lifetime `'a`.
macro_rules! kernel {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty $body:block) => {
        $(#[$doc])*
        #[allow(single_use_lifetimes, clippy::too_many_arguments)]
        $vis fn $name<'a>($($arg: $ty),*) -> $ret {
            struct Kernel<'a> {
                $($arg: $ty,)*
                lifetime: std::marker::PhantomData<&'a ()>,
            }
            impl<'a> pulp::WithSimd for Kernel<'a> {
                type Output = $ret;
                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) -> $ret {
                    let Self { $($arg,)* lifetime: _ } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Kernel { $($arg,)* lifetime: std::marker::PhantomData })
        }
    };
}
pub(crate) use kernel;

/// `a * b + c`, fused where the instruction set can (elsewhere a fused one would be a library call).
#[inline(always)]
pub(crate) fn fma<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::IS_SCALAR && cfg!(not(target_arch = "aarch64")) { a * b + c } else { a.mul_add(b, c) }
}

/// `e^x` to about 2 ulp for `x` in [-87, 88]; clamped outside, NaN stays NaN.
///
/// Cephes' `expf`: `x = n ln 2 + f` with `|f| <= ln 2 / 2`, a degree-6 polynomial in `f`, and `2^n` put
/// together from its bits. Branch-free, so loops over it vectorise.
#[inline(always)]
pub(crate) fn exp<S: Simd>(x: f32) -> f32 {
    /// Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    // Written so that NaN passes (f32::max would drop it).
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = fma::<S>(x, std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let f = fma::<S>(n, -0.693_359_4, x);
    let f = fma::<S>(n, 2.121_944_4e-4, f);
    let mut p = 1.987_569_1e-4;
    p = fma::<S>(p, f, 1.398_199_9e-3);
    p = fma::<S>(p, f, 8.333_452e-3);
    p = fma::<S>(p, f, 4.166_579_6e-2);
    p = fma::<S>(p, f, 1.666_666_5e-1);
    p = fma::<S>(p, f, 0.5);
    let p = fma::<S>(p * f, f, f) + 1.0;
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// Lanes of the accumulators in reductions: two AVX-512 registers, four AVX2 ones.
pub(crate) const LANES: usize = 32;

/// Adds lanes up in a fixed tree, then the tail.
#[inline(always)]
pub(crate) fn add_lanes(lanes: [f32; LANES], tail: f32) -> f32 {
    let mut lanes = lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0] + tail
}

/// `sum_i a_i b_i`; the caller is itself a kernel.
#[inline(always)]
pub(crate) fn dot<S: Simd>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_tail, b_tail) = (a_chunks.remainder(), b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] = fma::<S>(a[i], b[i], lanes[i]);
        }
    }
    let mut tail = 0.0;
    for (a, b) in a_tail.iter().zip(b_tail) {
        tail = fma::<S>(*a, *b, tail);
    }
    add_lanes(lanes, tail)
}

/// As [`dot`], for a few dozen elements, where 32 lanes would leave most of them to the scalar tail.
#[inline(always)]
pub(crate) fn dot_short<S: Simd>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            lanes[i] = fma::<S>(a[i], b[i], lanes[i]);
        }
    }
    let mut sum = 0.0;
    for (a, b) in a_tail.iter().zip(b_tail) {
        sum = fma::<S>(*a, *b, sum);
    }
    for i in 0..4 {
        lanes[i] += lanes[i + 4];
    }
    (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]) + sum
}

kernel! {
    /// `sum_i a_i^2` in f64.
    pub(crate) fn sum_of_squares(a: &'a [f32]) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let (blocks, tail) = a.as_chunks::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                lanes[i] += f64::from(block[i]) * f64::from(block[i]);
            }
        }
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
            width /= 2;
        }
        tail.iter().fold(lanes[0], |sum, a| sum + f64::from(*a) * f64::from(*a))
    }
}

/// The largest element of whole blocks, minus infinity if there is none; a NaN may be missed (it shows in the sum).
#[inline(always)]
pub(crate) fn max_blocks(a: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for a in a.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            lanes[i] = larger(a[i], lanes[i]);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = larger(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The largest element, minus infinity if there is none; a NaN may be missed (it shows in the sum).
#[inline(always)]
pub(crate) fn max(a: &[f32]) -> f32 {
    let (blocks, tail) = a.split_at(a.len() - a.len() % LANES);
    tail.iter().fold(max_blocks(blocks), |most, v| if *v > most { *v } else { most })
}

#[cfg(test)]
mod tests {
    use super::*;

    kernel! {
        fn exp_all(x: &'a mut [f32]) -> () {
            for v in x.iter_mut() {
                *v = exp::<S>(*v);
            }
        }
    }
    kernel! {
        fn short_all(a: &'a [f32], b: &'a [f32]) -> f32 {
            dot_short::<S>(a, b)
        }
    }
    kernel! {
        fn dot_all(a: &'a [f32], b: &'a [f32]) -> f32 {
            dot::<S>(a, b)
        }
    }

    #[test]
    fn exp_is_close_and_keeps_nan() {
        let x: Vec<f32> = (-87_000..=88_000).step_by(7).map(|i| i as f32 / 1000.0).collect();
        let mut y = x.clone();
        exp_all(&mut y);
        for (x, y) in x.iter().zip(&y) {
            let truth = f64::from(*x).exp();
            assert!((f64::from(*y) / truth - 1.0).abs() < 4e-7, "exp({x}) = {y}, not {truth}");
        }
        let mut edge = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 0.0];
        exp_all(&mut edge);
        assert!(edge[0].is_nan() && edge[1] < 2e-38 && edge[2] > 1e38 && edge[3] == 1.0, "{edge:?}");
    }

    struct ExpAll<'a>(&'a mut [f32]);

    impl pulp::WithSimd for ExpAll<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for v in self.0 {
                *v = exp::<S>(*v);
            }
        }
    }

    #[test]
    fn every_instruction_set_agrees() {
        let x: Vec<f32> = (-870..880).map(|i| i as f32 / 10.0).collect();
        let mut best = x.clone();
        exp_all(&mut best);
        let check = |run: &dyn Fn(ExpAll<'_>)| {
            let mut y = x.clone();
            run(ExpAll(&mut y));
            for (y, best) in y.iter().zip(&best) {
                assert!((y / best - 1.0).abs() < 4e-7, "{y} and {best}");
            }
        };
        check(&|op| Simd::vectorize(pulp::Scalar::new(), op));
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = pulp::x86::V3::try_new() {
            check(&|op| Simd::vectorize(avx2, op));
        }
    }

    #[test]
    fn reductions_cover_every_length() {
        for n in [0usize, 1, 31, 32, 33, 64, 1025] {
            let a: Vec<f32> = (0..n).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            let b: Vec<f32> = (0..n).map(|i| ((i * 53) % 97) as f32 - 48.0).collect();
            let truth: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert_eq!(f64::from(dot_all(&a, &b)), truth, "integers below 2^24 are exact; n = {n}");
            assert_eq!(f64::from(short_all(&a, &b)), truth, "n = {n}");
            let squares: f64 = a.iter().map(|a| f64::from(*a) * f64::from(*a)).sum();
            assert_eq!(sum_of_squares(&a), squares, "n = {n}");
            assert_eq!(max(&a), a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
