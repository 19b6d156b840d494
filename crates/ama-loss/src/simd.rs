//! Vectorised loops over slices, compiled for several instruction sets and chosen when the program runs.
//!
//! Every loop is written once as plain Rust over arrays of lanes; `kernels.rs` compiles it for AVX-512, for
//! AVX2 + FMA and for the baseline of the target, and [`Isa`] picks. Sums run in a fixed number of lanes that are
//! added up in a fixed tree, so a result depends on the data and the instruction set only.

mod isa;
pub(crate) mod kernels;
mod lse;

pub use isa::Isa;
pub use lse::OnlineLse;

/// Replaces every `x` by `e^x`.
///
/// Within 2 ulp of the exact value. Results below `2.4e-38` become 0 (so `e^-inf` is exactly 0), above `f32::MAX`
/// infinity; NaN stays NaN.
pub fn exp_in_place(isa: Isa, x: &mut [f32]) {
    kernels::exp_in_place(isa, x);
}

/// Sum of `x`: `f32` within blocks of 1024 elements, `f64` over the blocks. The empty sum is 0.
pub fn sum(isa: Isa, x: &[f32]) -> f64 {
    kernels::sum(isa, x)
}

/// Largest element of `x`, NaN ignored; negative infinity if there is none.
pub fn max(isa: Isa, x: &[f32]) -> f32 {
    kernels::max(isa, x)
}

/// `ln sum_j e^(x_j)` of one row, in one pass over memory (see [`OnlineLse`]).
///
/// Never overflows. Any NaN or `+inf` gives NaN, as the log-softmax of such a row would be; a row of `-inf` only (or
/// an empty one) gives `-inf`.
///
/// ```
/// use ama_loss::simd::{Isa, lse_row};
/// let lse = lse_row(Isa::detect(), &[1000.0, 1000.0]);
/// assert!((lse - (1000.0 + std::f64::consts::LN_2)).abs() < 1e-6);
/// ```
pub fn lse_row(isa: Isa, x: &[f32]) -> f64 {
    let mut lse = OnlineLse::default();
    lse.push(isa, x);
    lse.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units in the last place between a float and the truth.
    fn ulps(got: f32, truth: f64) -> f64 {
        let near = truth as f32;
        let ulp = f64::from(f32::from_bits(near.to_bits() + 1)) - f64::from(near);
        (f64::from(got) - truth).abs() / ulp
    }

    #[test]
    fn exp_is_within_two_ulp_on_every_instruction_set() {
        let mut x: Vec<f32> = (-866_000..=887_000).map(|i| i as f32 * 1e-4).collect();
        x.extend([0.0, -0.0, 1e-30, -1e-30, f32::MIN_POSITIVE, 88.722, -86.6]);
        for isa in Isa::available() {
            let mut y = x.clone();
            exp_in_place(isa, &mut y);
            let worst = x.iter().zip(&y).map(|(x, y)| ulps(*y, f64::from(*x).exp())).fold(0.0, f64::max);
            assert!(worst <= 2.0, "{}: {worst} ulp", isa.name());
        }
    }

    #[test]
    fn exp_at_the_edges() {
        const INF: f32 = f32::INFINITY;
        for isa in Isa::available() {
            // Once in the vectorised part and once in the tail.
            for copies in [1, 67] {
                let edges = [-INF, -87.0, -1e30, f32::MIN, 89.0, 1e30, INF, f32::NAN];
                let mut y = edges.repeat(copies);
                exp_in_place(isa, &mut y);
                for y in y.chunks(8) {
                    assert_eq!(y[..7], [0.0, 0.0, 0.0, 0.0, INF, INF, INF], "{}", isa.name());
                    assert!(y[7].is_nan());
                }
            }
        }
    }

    #[test]
    fn reductions_match_f64_on_every_instruction_set() {
        for isa in Isa::available() {
            for n in [0, 1, 31, 32, 33, 1023, 1025, 5000] {
                let x: Vec<f32> = (0..n).map(|i| ((i * 7919) % 1013) as f32 * 0.02 - 10.0).collect();
                let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
                let most = wide.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                assert_eq!(f64::from(max(isa, &x)), most);
                assert!((sum(isa, &x) - wide.iter().sum::<f64>()).abs() < 2e-6 * (1 + n) as f64);
                let lse = crate::reference::log_sum_exp(&wide);
                let got = lse_row(isa, &x);
                assert!(got == lse || (got - lse).abs() < 5e-7, "{} {n}: {got} vs {lse}", isa.name());
            }
        }
    }

    #[test]
    fn a_row_in_pieces_is_the_row() {
        let x: Vec<f32> = (0..3000).map(|i| ((i * 37) % 997) as f32 * 0.3).collect();
        for isa in Isa::available() {
            for piece in [1, 7, 1024, 2999] {
                let mut lse = OnlineLse::default();
                for part in x.chunks(piece) {
                    lse.push(isa, part);
                }
                assert!((lse.value() - lse_row(isa, &x)).abs() < 1e-6, "{} by {piece}", isa.name());
            }
        }
    }

    #[test]
    fn log_sum_exp_of_hostile_rows() {
        const INF: f32 = f32::INFINITY;
        for isa in Isa::available() {
            for n in [1, 40, 2000] {
                let row = |first: f32, rest: f32| {
                    let mut row = vec![rest; n];
                    row[n - 1] = first;
                    lse_row(isa, &row)
                };
                assert_eq!(row(-INF, -INF), f64::NEG_INFINITY);
                assert!(row(f32::NAN, 0.0).is_nan());
                assert!(row(f32::NAN, -INF).is_nan());
                assert!(row(INF, 0.0).is_nan());
                assert_eq!(row(3.0, -INF), 3.0);
                assert!((row(-2e30, 2e30) - f64::from(2e30f32)).abs() < 1e24 || n == 1);
            }
            assert_eq!(lse_row(isa, &[]), f64::NEG_INFINITY);
        }
    }

    #[test]
    fn names_are_known_and_detection_is_the_best() {
        let all = Isa::available();
        assert_eq!(all[0], Isa::detect());
        assert_eq!(all[all.len() - 1], Isa::PORTABLE);
        assert!(all.iter().all(|isa| ["avx512", "avx2", "portable"].contains(&isa.name())));
    }
}
