//! Kernels for the processor: `f32` in, `f64` accumulators, rayon threads, instruction set chosen when they run.
//!
//! A device backend lies beside this module and answers to the same [`reference`](crate::reference).

mod linear_logp;
mod logits;

pub use linear_logp::{
    HeadShape, KeptLogits, LinearLogp, Recompute, Tile, linear_logp_backward, linear_logp_forward,
};
pub use logits::{LogitsShape, logits_logp_backward, logits_logp_backward_in_place, logits_logp_forward};

/// Log-probabilities of the targets, and what the backward pass needs besides the inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct LogpForward {
    /// `[rows]`: `log_softmax(logits)[target]` in nats.
    pub logp: Vec<f32>,
    /// `[rows]`: `ln sum_j e^(logits_j)` in nats. In `f64`: one `f32` would cost the softmax `|lse| 6e-8` relative.
    pub lse: Vec<f64>,
}

/// Elements that are worth a task of their own; fewer rows than this hold stay on one thread.
const TASK_ELEMENTS: usize = 16 * 1024;

/// Rows of `cols` elements that make one task.
fn rows_per_task(cols: usize) -> usize {
    (TASK_ELEMENTS / cols.max(1)).max(1)
}

/// `d loss / d logits` of one row, from its logits: the pieces that do not depend on the column.
///
/// `g (onehot - softmax)` where `g` is the upstream gradient, `softmax = e^(x - lse)`. At the target,
/// `g (1 - e^(x - lse))` is computed as `-g expm1(x - lse)` in `f64`, exact also when the model is almost certain.
#[derive(Debug, Clone, Copy)]
struct RowGrad {
    lse: f64,
    high: f32,
    low: f32,
    upstream: f32,
}

impl RowGrad {
    fn new(lse: f64, upstream: f32) -> Self {
        let high = lse as f32;
        Self { lse, high, low: (lse - f64::from(high)) as f32, upstream }
    }

    /// Gradient at the target, whose logit is `x`.
    fn at_target(&self, x: f32) -> f32 {
        (-f64::from(self.upstream) * (f64::from(x) - self.lse).exp_m1()) as f32
    }
}
