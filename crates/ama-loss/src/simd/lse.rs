//! Log-sum-exp of a row that comes in pieces.

use super::{Isa, kernels};

/// Running `max` and `sum e^(x - max)` of a row: the online softmax of Milakov & Gimelshein 2018 (arXiv 1805.02867).
///
/// A row may be pushed in any number of pieces; each is read from memory once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnlineLse {
    max: f32,
    sum: f64,
}

impl Default for OnlineLse {
    /// The empty row: `-inf`.
    fn default() -> Self {
        Self { max: f32::NEG_INFINITY, sum: 0.0 }
    }
}

impl OnlineLse {
    /// Takes the next piece of the row in.
    pub fn push(&mut self, isa: Isa, x: &[f32]) {
        (self.max, self.sum) = kernels::online_lse(isa, x, self.max, self.sum);
    }

    /// `ln sum e^x` of all that was pushed, in nats: NaN if there was a NaN or `+inf`, `-inf` if there was nothing
    /// but `-inf`.
    pub fn value(self) -> f64 {
        f64::from(self.max) + self.sum.ln()
    }

    /// `x - value()`: the log-probability of an element of the row, exact to rounding also where `value()` alone would
    /// swallow `ln sum` (logits beyond `1e9`).
    pub fn logp(self, x: f32) -> f64 {
        (f64::from(x) - f64::from(self.max)) - self.sum.ln()
    }
}
