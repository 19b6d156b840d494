//! Linear combinations of a tensor of several models.

use std::ops::Range;

use super::Values;

/// `out = sum_i c_i x_i` over `range`, summed in f64 and rounded once; `scratch` and `sum` are as long as the range.
///
/// Rounding once makes the average of equal tensors that tensor, bit for bit.
#[inline(always)]
pub(crate) fn combine(
    models: &[Values<'_>],
    coefficients: &[f64],
    range: &Range<usize>,
    scratch: &mut [f32],
    sum: &mut [f64],
    out: &mut [f32],
) {
    sum.fill(0.0);
    for (model, c) in models.iter().zip(coefficients) {
        model.read(range, scratch);
        for (sum, x) in sum.iter_mut().zip(scratch.iter()) {
            *sum += c * f64::from(*x);
        }
    }
    for (out, sum) in out.iter_mut().zip(sum.iter()) {
        *out = *sum as f32;
    }
}
