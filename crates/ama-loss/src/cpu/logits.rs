//! Log-probabilities of targets from logits that somebody else computed.
//!
//! `logp_i = x_i[t_i] - lse_i`, `lse_i = ln sum_j e^(x_ij)`, and backward `dx_ij = g_i (1[j = t_i] - e^(x_ij - lse_i))`
//! with `g_i = d loss / d logp_i`. Forward reads the logits once; backward reads and writes them once.
//!
//! # Numerics
//! Any finite logits are fine forward; the gradient is exact to rounding for logits up to about `1e9`. A row with NaN or `+inf`, or of `-inf` only, has log-probability NaN (as in PyTorch) and
//! a NaN gradient; the other rows do not notice. Single logits of `-inf` are tokens of probability 0.

use rayon::prelude::*;

use super::{LogpForward, RowGrad, rows_per_task};
use crate::error::{LossError, check_len, check_some, check_targets, elements};
use crate::simd::{Isa, OnlineLse, kernels};

/// Layout of logits: row `i` is `logits[i * stride..][..vocab]`. The last row may end at its last logit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogitsShape {
    /// Rows (tokens).
    pub rows: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Elements from one row to the next, at least `vocab`; what lies between is never touched.
    pub stride: usize,
}

impl LogitsShape {
    /// Rows back to back.
    pub fn contiguous(rows: usize, vocab: usize) -> Self {
        Self { rows, vocab, stride: vocab }
    }

    /// Elements that a slice of this shape needs at least.
    ///
    /// # Errors
    /// [`LossError::Empty`], [`LossError::Strides`], [`LossError::Overflow`].
    pub fn elements(&self) -> Result<usize, LossError> {
        check_some("rows", self.rows)?;
        check_some("vocab", self.vocab)?;
        if self.stride < self.vocab {
            return Err(LossError::Strides {
                what: "logits",
                rows: self.rows,
                cols: self.vocab,
                row_stride: self.stride,
                col_stride: 1,
            });
        }
        Ok(elements("logits", self.rows, self.stride)? - self.stride + self.vocab)
    }

    /// Checks one slice of logits; a longer one is fine.
    pub(crate) fn check(&self, what: &'static str, got: usize) -> Result<(), LossError> {
        let want = self.elements()?;
        if got < want { Err(LossError::Length { what, want, got }) } else { Ok(()) }
    }
}

/// `log_softmax(logits)[target]` of every row.
///
/// # Shapes
/// `logits` as `shape` says, `targets` `[rows]`.
///
/// # Errors
/// [`LossError::Length`], [`LossError::Empty`], [`LossError::Strides`], [`LossError::Overflow`],
/// [`LossError::Target`].
///
/// # Example
/// ```
/// use ama_loss::cpu::{LogitsShape, logits_logp_forward};
/// let logits = [0.0, 0.0, 3.0, f32::NEG_INFINITY];
/// let forward = logits_logp_forward(&logits, &[0, 0], LogitsShape::contiguous(2, 2))?;
/// assert_eq!(forward.logp, [-std::f32::consts::LN_2, 0.0]);
/// # Ok::<(), ama_loss::LossError>(())
/// ```
pub fn logits_logp_forward(
    logits: &[f32],
    targets: &[u32],
    shape: LogitsShape,
) -> Result<LogpForward, LossError> {
    forward_on(Isa::detect(), logits, targets, shape)
}

/// `d loss / d logits` into `d_logits`, which has the shape of `logits` and is overwritten.
///
/// Rows whose upstream gradient is 0 are not read; their gradient is 0.
///
/// # Shapes
/// `logits`, `d_logits` as `shape` says; `targets`, `lse` (of the forward pass), `upstream` `[rows]`.
///
/// # Errors
/// As [`logits_logp_forward`].
pub fn logits_logp_backward(
    logits: &[f32],
    targets: &[u32],
    lse: &[f64],
    upstream: &[f32],
    shape: LogitsShape,
    d_logits: &mut [f32],
) -> Result<(), LossError> {
    shape.check("logits", logits.len())?;
    backward_on(Isa::detect(), Some(logits), targets, lse, upstream, shape, d_logits)
}

/// As [`logits_logp_backward`], turning the logits themselves into their gradient.
///
/// # Errors
/// As [`logits_logp_forward`].
pub fn logits_logp_backward_in_place(
    logits: &mut [f32],
    targets: &[u32],
    lse: &[f64],
    upstream: &[f32],
    shape: LogitsShape,
) -> Result<(), LossError> {
    backward_on(Isa::detect(), None, targets, lse, upstream, shape, logits)
}

fn forward_on(
    isa: Isa,
    logits: &[f32],
    targets: &[u32],
    shape: LogitsShape,
) -> Result<LogpForward, LossError> {
    shape.check("logits", logits.len())?;
    check_len("targets", targets.len(), shape.rows)?;
    check_targets(targets, shape.vocab)?;
    let (mut logp, mut lse) = (vec![0.0; shape.rows], vec![0.0; shape.rows]);
    logits
        .par_chunks(shape.stride)
        .zip(targets)
        .zip(&mut logp)
        .zip(&mut lse)
        .with_min_len(rows_per_task(shape.vocab))
        .for_each(|(((row, target), logp), lse)| {
            let mut running = OnlineLse::default();
            running.push(isa, &row[..shape.vocab]);
            *lse = running.value();
            *logp = running.logp(row[*target as usize]) as f32;
        });
    Ok(LogpForward { logp, lse })
}

/// Reads `source`, or `out` itself if there is none.
fn backward_on(
    isa: Isa,
    source: Option<&[f32]>,
    targets: &[u32],
    lse: &[f64],
    upstream: &[f32],
    shape: LogitsShape,
    out: &mut [f32],
) -> Result<(), LossError> {
    shape.check(if source.is_some() { "d_logits" } else { "logits" }, out.len())?;
    check_len("targets", targets.len(), shape.rows)?;
    check_len("lse", lse.len(), shape.rows)?;
    check_len("upstream", upstream.len(), shape.rows)?;
    check_targets(targets, shape.vocab)?;
    out.par_chunks_mut(shape.stride)
        .zip(targets)
        .zip(lse)
        .zip(upstream)
        .enumerate()
        .with_min_len(rows_per_task(shape.vocab))
        .for_each(|(i, (((out, target), lse), upstream))| {
            let out = &mut out[..shape.vocab];
            if *upstream == 0.0 {
                out.fill(0.0);
                return;
            }
            let (grad, target) = (RowGrad::new(*lse, *upstream), *target as usize);
            let x = match source {
                Some(logits) => {
                    let row = &logits[i * shape.stride..][..shape.vocab];
                    kernels::scaled_softmax(isa, row, out, grad.high, grad.low, -upstream);
                    row[target]
                }
                None => {
                    let x = out[target];
                    kernels::scaled_softmax_in_place(isa, out, grad.high, grad.low, -upstream);
                    x
                }
            };
            out[target] = grad.at_target(x);
        });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn all_instruction_sets_agree_with_f64() {
        let (rows, vocab) = (5, 1025);
        let logits: Vec<f32> = (0..rows * vocab).map(|i| 20.0 * (i as f32 * 0.61).sin()).collect();
        let wide: Vec<f64> = logits.iter().map(|x| f64::from(*x)).collect();
        let (targets, upstream) = ([0, 1024, 31, 32, 500], [1.0, -0.5, 2.0, 0.0, 0.25]);
        let shape = LogitsShape::contiguous(rows, vocab);
        let truth = reference::log_softmax_gather(&wide, &targets, vocab);
        let up = upstream.map(f64::from);
        let true_grad = reference::log_softmax_gather_backward(&wide, &targets, &up, vocab);
        for isa in Isa::available() {
            let forward = forward_on(isa, &logits, &targets, shape).unwrap();
            let mut grad = vec![f32::NAN; logits.len()];
            backward_on(isa, Some(&logits), &targets, &forward.lse, &upstream, shape, &mut grad).unwrap();
            for (got, want) in [(&forward.logp, &truth), (&grad, &true_grad)] {
                for (got, want) in got.iter().zip(want) {
                    assert!((f64::from(*got) - want).abs() < 5e-6, "{}: {got} vs {want}", isa.name());
                }
            }
        }
    }
}
