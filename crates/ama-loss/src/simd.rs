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
