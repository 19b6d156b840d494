//! Log-probabilities of targets from hidden states: linear layer, log-softmax and gather in one, without all logits.
//!
//! Symbols: `n` rows (tokens), `d` hidden size, `V` vocabulary; `H` `[n, d]`, `W` `[V, d]`, `t` `[n]`;
//! `X = H W^T` the logits, `lse_i = ln sum_j e^(X_ij)`, `g_i = d loss / d logp_i`.
//!
//! ```text
//! forward    logp_i = X_i[t_i] - lse_i
//! backward   dX_ij  = g_i (1[j = t_i] - e^(X_ij - lse_i)),   dH += dX W,   dW += dX^T H
//! ```
//!
//! `X` exists one [`Tile`] (some rows x some tokens of the vocabulary) at a time, under a budget of bytes: the forward
//! pass folds each tile into an online log-sum-exp, the backward pass computes it again from `H` and `W` (as in
//! Cut Cross-Entropy, Wijmans et al. 2024, arXiv 2411.09009, and Liger-Kernel). That costs a fourth product. If all
//! logits fit the budget they may be kept instead ([`Recompute::OverBudget`]).
//!
//! Rows with `g_i = 0` (pairs that the excess clipped) cost nothing in the backward pass: the others are gathered.
//!
//! # Numerics
//! Products accumulate in `f32`, sums of exponentials in `f64` over blocks; `lse` is `f64`. A row whose logits hold NaN or
//! `+inf` has log-probability NaN; other rows' log-probabilities do not notice.

use rayon::prelude::*;

use super::{LogpForward, RowGrad, rows_per_task};
use crate::Threads;
use crate::error::{LossError, check_len, check_some, check_targets, elements};
use crate::gemm::{MatMut, MatRef, matmul};
use crate::simd::{Isa, OnlineLse, kernels};

/// Sizes of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    /// `n`: rows (tokens whose target's log-probability is wanted).
    pub rows: usize,
    /// `d`: hidden size.
    pub hidden: usize,
    /// `V`: tokens in the vocabulary.
    pub vocab: usize,
}

/// The piece of the logits that exists at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Rows of the piece.
    pub rows: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
}

/// Tokens of the vocabulary in a tile, unless the budget or the vocabulary is smaller.
const TILE_VOCAB: usize = 1024;

impl HeadShape {
    /// The tile that fits `budget_bytes`: all rows if possible (the gradient of the weight is then read and written
    /// once), fewer if not, at least one.
    ///
    /// # Errors
    /// [`LossError::Empty`] for a size of 0, [`LossError::Overflow`] for operands that cannot be addressed,
    /// [`LossError::Budget`] for a budget of less than one float.
    ///
    /// ```
    /// use ama_loss::cpu::HeadShape;
    /// let shape = HeadShape { rows: 2048, hidden: 576, vocab: 49152 };
    /// let tile = shape.tile(64 << 20)?;
    /// assert!(4 * tile.rows * tile.vocab <= 64 << 20);
    /// # Ok::<(), ama_loss::LossError>(())
    /// ```
    pub fn tile(self, budget_bytes: usize) -> Result<Tile, LossError> {
        check_some("rows", self.rows)?;
        check_some("hidden", self.hidden)?;
        check_some("vocab", self.vocab)?;
        elements("hidden", self.rows, self.hidden)?;
        elements("weight", self.vocab, self.hidden)?;
        let floats = budget_bytes / size_of::<f32>();
        if floats == 0 {
            return Err(LossError::Budget { want: size_of::<f32>(), got: budget_bytes });
        }
        let vocab = self.vocab.min(TILE_VOCAB).min(floats);
        Ok(Tile { rows: self.rows.min(floats / vocab), vocab })
    }

    /// Number of logits, if all of them fit `budget_bytes`.
    fn logits_within(self, budget_bytes: usize) -> Option<usize> {
        self.rows.checked_mul(self.vocab).filter(|n| *n <= budget_bytes / size_of::<f32>())
    }
}

/// What [`LinearLogp::forward`] does with the logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recompute {
    /// Keep them for the backward pass if all fit the budget, else compute them again there.
    #[default]
    OverBudget,
    /// Never keep them: right when no backward pass follows.
    Always,
}

/// All logits of a forward pass, under the budget; the backward pass consumes them.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptLogits(Vec<f32>);

impl KeptLogits {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        size_of_val(self.0.as_slice())
    }
}

/// The operands of the head. Fields are checked when a pass runs.
#[derive(Debug, Clone, Copy)]
pub struct LinearLogp<'a> {
    /// `H` `[rows, hidden]`, row-major.
    pub hidden: &'a [f32],
    /// `W` `[vocab, hidden]`, row-major, as Hugging Face stores it.
    pub weight: &'a [f32],
    /// `t` `[rows]`, each below `vocab`.
    pub targets: &'a [u32],
    /// Sizes.
    pub shape: HeadShape,
    /// Most bytes of logits that may exist at a time (64 MiB is a good value). Products pack their operands in a few
    /// MiB of their own, and gathered rows take two `[tile rows, hidden]` blocks.
    pub budget_bytes: usize,
}

/// `log_softmax(hidden weight^T)[target]` of every row, keeping no logits.
///
/// [`LinearLogp::forward`] with [`Recompute::Always`]; see there for shapes and errors.
///
/// # Errors
/// As [`LinearLogp::forward`].
pub fn linear_logp_forward(
    hidden: &[f32],
    weight: &[f32],
    targets: &[u32],
    shape: HeadShape,
    budget_bytes: usize,
) -> Result<LogpForward, LossError> {
    let head = LinearLogp { hidden, weight, targets, shape, budget_bytes };
    head.forward(Recompute::Always).map(|(forward, _)| forward)
}

/// Gradients of the head, computing the logits again.
///
/// [`LinearLogp::backward`] without kept logits; see there for shapes and errors.
///
/// # Errors
/// As [`LinearLogp::backward`].
#[allow(clippy::too_many_arguments, reason = "plain slices for callers who hold no `LinearLogp`")]
pub fn linear_logp_backward(
    hidden: &[f32],
    weight: &[f32],
    targets: &[u32],
    lse: &[f64],
    upstream: &[f32],
    shape: HeadShape,
    budget_bytes: usize,
    d_hidden: &mut [f32],
    d_weight: Option<&mut [f32]>,
) -> Result<(), LossError> {
    let head = LinearLogp { hidden, weight, targets, shape, budget_bytes };
    head.backward(lse, None, upstream, d_hidden, d_weight)
}

impl LinearLogp<'_> {
    /// `log_softmax(hidden weight^T)[target]` of every row, and the logits if they are to be kept and fit the budget.
    ///
    /// # Errors
    /// [`LossError::Length`], [`LossError::Empty`], [`LossError::Overflow`], [`LossError::Budget`],
    /// [`LossError::Target`].
    ///
    /// # Example
    /// ```
    /// use ama_loss::cpu::{HeadShape, LinearLogp, Recompute};
    /// let head = LinearLogp {
    ///     hidden: &[1.0, 2.0],
    ///     weight: &[0.0; 8],
    ///     targets: &[3],
    ///     shape: HeadShape { rows: 1, hidden: 2, vocab: 4 },
    ///     budget_bytes: 64 << 20,
    /// };
    /// let (forward, kept) = head.forward(Recompute::OverBudget)?;
    /// assert_eq!(forward.logp, [-4f32.ln()]);
    /// let mut d_hidden = [0.0; 2];
    /// let mut d_weight = [0.0; 8];
    /// head.backward(&forward.lse, kept, &[1.0], &mut d_hidden, Some(&mut d_weight))?;
    /// assert_eq!(d_weight, [-0.25, -0.5, -0.25, -0.5, -0.25, -0.5, 0.75, 1.5]);
    /// # Ok::<(), ama_loss::LossError>(())
    /// ```
    pub fn forward(&self, recompute: Recompute) -> Result<(LogpForward, Option<KeptLogits>), LossError> {
        self.forward_on(Isa::detect(), recompute)
    }

    fn forward_on(
        &self,
        isa: Isa,
        recompute: Recompute,
    ) -> Result<(LogpForward, Option<KeptLogits>), LossError> {
        let tile = self.check()?;
        let HeadShape { rows, hidden: d, vocab } = self.shape;
        let kept = match recompute {
            Recompute::OverBudget => self.shape.logits_within(self.budget_bytes),
            Recompute::Always => None,
        };
        let mut logits = vec![0.0; kept.unwrap_or(tile.rows * tile.vocab)];
        let chunk = if kept.is_some() { rows } else { tile.rows };
        let (mut logp, mut lse) = (vec![0.0; rows], vec![0.0; rows]);
        let mut running = vec![OnlineLse::default(); chunk];
        let mut at_target = vec![0.0; chunk];
        let parts = self.hidden.chunks(chunk * d).zip(self.targets.chunks(chunk));
        for ((h, targets), (logp, lse)) in parts.zip(logp.chunks_mut(chunk).zip(lse.chunks_mut(chunk))) {
            let (running, at_target) = (&mut running[..targets.len()], &mut at_target[..targets.len()]);
            running.fill(OnlineLse::default());
            for first in (0..vocab).step_by(tile.vocab) {
                let width = tile.vocab.min(vocab - first);
                let (out, stride) =
                    if kept.is_some() { (&mut logits[first..], vocab) } else { (&mut logits[..], width) };
                self.logits(h, first, width, out, stride)?;
                out.par_chunks(stride)
                    .zip(targets)
                    .zip(&mut *running)
                    .zip(&mut *at_target)
                    .with_min_len(rows_per_task(width))
                    .for_each(|(((row, target), running), at_target)| {
                        let row = &row[..width];
                        running.push(isa, row);
                        if let Some(x) = (*target as usize).checked_sub(first).and_then(|j| row.get(j)) {
                            *at_target = *x;
                        }
                    });
            }
            for (((running, x), logp), lse) in running.iter().zip(at_target).zip(logp).zip(lse) {
                *lse = running.value();
                *logp = running.logp(*x) as f32;
            }
        }
        Ok((LogpForward { logp, lse }, kept.map(|_| KeptLogits(logits))))
    }

    /// Adds `d loss / d hidden` to `d_hidden` and `d loss / d weight` to `d_weight`; `None` is a frozen head.
    ///
    /// Rows whose `upstream` is 0 are skipped: their hidden states are not even read.
    ///
    /// # Shapes
    /// `lse` (of the forward pass), `upstream` (`d loss / d logp`) `[rows]`; `d_hidden` `[rows, hidden]`; `d_weight`
    /// `[vocab, hidden]`. `kept` must come from the forward pass on the same operands.
    ///
    /// # Errors
    /// As [`LinearLogp::forward`]; outputs are untouched then.
    pub fn backward(
        &self,
        lse: &[f64],
        kept: Option<KeptLogits>,
        upstream: &[f32],
        d_hidden: &mut [f32],
        d_weight: Option<&mut [f32]>,
    ) -> Result<(), LossError> {
        self.backward_on(Isa::detect(), lse, kept, upstream, d_hidden, d_weight)
    }

    fn backward_on(
        &self,
        isa: Isa,
        lse: &[f64],
        kept: Option<KeptLogits>,
        upstream: &[f32],
        d_hidden: &mut [f32],
        mut d_weight: Option<&mut [f32]>,
    ) -> Result<(), LossError> {
        let tile = self.check()?;
        let HeadShape { rows, hidden: d, vocab } = self.shape;
        check_len("lse", lse.len(), rows)?;
        check_len("upstream", upstream.len(), rows)?;
        check_len("d_hidden", d_hidden.len(), rows * d)?;
        if let Some(d_weight) = &d_weight {
            check_len("d_weight", d_weight.len(), vocab * d)?;
        }
        if let Some(KeptLogits(logits)) = &kept {
            check_len("kept", logits.len(), elements("logits", rows, vocab)?)?;
        }
        let active: Vec<usize> = (0..rows).filter(|i| upstream[*i] != 0.0).collect();
        let dense = active.len() == rows;
        let (mut logits, is_kept) = match kept {
            Some(KeptLogits(logits)) => (logits, true),
            None => (vec![0.0; tile.rows.min(active.len()) * tile.vocab], false),
        };
        if is_kept && !dense {
            for (to, from) in active.iter().enumerate() {
                logits.copy_within(from * vocab..(from + 1) * vocab, to * vocab);
            }
        }
        let chunk = if is_kept { active.len().max(1) } else { tile.rows };
        let mut gathered = if dense { Vec::new() } else { vec![0.0; chunk.min(active.len()) * d] };
        let mut d_gathered = gathered.clone();
        for active in active.chunks(chunk) {
            let n = active.len();
            let grads: Vec<_> = active
                .iter()
                .map(|i| (RowGrad::new(lse[*i], upstream[*i]), self.targets[*i] as usize))
                .collect();
            let (h, d_h) = if dense {
                let part = active[0] * d..(active[0] + n) * d;
                (&self.hidden[part.clone()], &mut d_hidden[part])
            } else {
                for (to, i) in gathered.chunks_mut(d).zip(active) {
                    to.copy_from_slice(&self.hidden[i * d..(i + 1) * d]);
                }
                d_gathered[..n * d].fill(0.0);
                (&gathered[..n * d], &mut d_gathered[..n * d])
            };
            for first in (0..vocab).step_by(tile.vocab) {
                let width = tile.vocab.min(vocab - first);
                let (x, stride) =
                    if is_kept { (&mut logits[first..], vocab) } else { (&mut logits[..], width) };
                if !is_kept {
                    self.logits(h, first, width, x, stride)?;
                }
                x.par_chunks_mut(stride).zip(&grads).with_min_len(rows_per_task(width)).for_each(
                    |(row, (grad, target))| {
                        let row = &mut row[..width];
                        let target = target.checked_sub(first).filter(|j| *j < width);
                        let at_target = target.map(|j| grad.at_target(row[j]));
                        kernels::scaled_softmax_in_place(isa, row, grad.high, grad.low, -grad.upstream);
                        if let (Some(j), Some(value)) = (target, at_target) {
                            row[j] = value;
                        }
                    },
                );
                let d_x = MatRef::strided(x, n, width, stride, 1)?;
                let w = MatRef::row_major(&self.weight[first * d..(first + width) * d], width, d)?;
                matmul(MatMut::row_major(d_h, n, d)?, true, d_x, w, Threads::current())?;
                if let Some(d_weight) = &mut d_weight {
                    let d_w = MatMut::row_major(&mut d_weight[first * d..(first + width) * d], width, d)?;
                    matmul(d_w, true, d_x.t(), MatRef::row_major(h, n, d)?, Threads::current())?;
                }
            }
            if !dense {
                for (from, i) in d_gathered.chunks(d).zip(active) {
                    for (to, from) in d_hidden[i * d..(i + 1) * d].iter_mut().zip(from) {
                        *to += from;
                    }
                }
            }
        }
        Ok(())
    }

    /// `out = h W[first..first + width]^T`, rows `stride` apart.
    fn logits(
        &self,
        h: &[f32],
        first: usize,
        width: usize,
        out: &mut [f32],
        stride: usize,
    ) -> Result<(), LossError> {
        let d = self.shape.hidden;
        let n = h.len() / d;
        let w = MatRef::row_major(&self.weight[first * d..(first + width) * d], width, d)?;
        let out = MatMut::strided(out, n, width, stride, 1)?;
        matmul(out, false, MatRef::row_major(h, n, d)?, w.t(), Threads::current())
    }

    /// Checks the operands before anything is written.
    fn check(&self) -> Result<Tile, LossError> {
        let HeadShape { rows, hidden, vocab } = self.shape;
        let tile = self.shape.tile(self.budget_bytes)?;
        check_len("hidden", self.hidden.len(), rows * hidden)?;
        check_len("weight", self.weight.len(), vocab * hidden)?;
        check_len("targets", self.targets.len(), rows)?;
        check_targets(self.targets, vocab)?;
        Ok(tile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    /// Every instruction set that this machine has, on a size with tails and several tiles.
    #[test]
    fn all_instruction_sets_agree_with_f64() {
        let shape = HeadShape { rows: 13, hidden: 7, vocab: 1 + 2 * TILE_VOCAB };
        let wave = |n: usize, step: f32| -> Vec<f32> { (0..n).map(|i| (i as f32 * step).sin()).collect() };
        let (hidden, weight) = (wave(13 * 7, 0.37), wave(7 * shape.vocab, 0.73));
        let upstream = wave(13, 1.9);
        let targets: Vec<u32> = (0..13).map(|i| (i * 170) % shape.vocab as u32).collect();
        let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|x| f64::from(*x)).collect() };
        let truth = reference::linear_logp_forward(&wide(&hidden), &wide(&weight), &targets, 7);
        let (true_h, true_w) =
            reference::linear_logp_backward(&wide(&hidden), &wide(&weight), &targets, &wide(&upstream), 7);
        let head =
            LinearLogp { hidden: &hidden, weight: &weight, targets: &targets, shape, budget_bytes: 1 << 16 };
        for isa in Isa::available() {
            let (forward, _) = head.forward_on(isa, Recompute::Always).unwrap();
            let (mut d_h, mut d_w) = (vec![0.0; hidden.len()], vec![0.0; weight.len()]);
            head.backward_on(isa, &forward.lse, None, &upstream, &mut d_h, Some(&mut d_w)).unwrap();
            for (got, want) in [(&forward.logp, &truth), (&d_h, &true_h), (&d_w, &true_w)] {
                for (got, want) in got.iter().zip(want) {
                    assert!((f64::from(*got) - want).abs() < 2e-6, "{}: {got} vs {want}", isa.name());
                }
            }
        }
    }
}
