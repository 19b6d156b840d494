//! Log-probabilities of targets from hidden states on the device: linear layer, log-softmax and gather, without all
//! logits.
//!
//! The equations of [`cpu::LinearLogp`](crate::cpu::LinearLogp). Logits exist for some rows at a time, all of the
//! vocabulary, under a budget of bytes ([`HeadPlan`]); the backward pass computes them again from `H` and `W`.
//!
//! ```text
//! forward    X = H W^T (f32),  logp, lse from one read of X
//! backward   X = H W^T,  dX = g (1[target] - softmax X) over X itself (bf16: beside it),  dH += dX W,  dW += dX^T H
//! ```
//!
//! # Numerics
//! Operands `f32` or `bf16`, logits and all sums `f32`. With `bf16` operands the gradient of the logits is rounded to
//! `bf16` for its products, as an autograd of a `bf16` model does; the softmax before that is not.

use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::{CudaStream, CudaView, CudaViewMut};
use half::bf16;

use super::gemm::{Gemm, Matrix, MatrixMut};
use super::kernels::Kernels;
use super::launch::{check_slice, size};
use super::logp::LogpOut;
use super::memory::Tracked;
use crate::error::{check_some, elements};
use crate::{HeadShape, LogitsShape, LossError};

/// Rows of logits start at multiples of this many elements if memory allows: 16 bytes of `bf16`, which wide loads and
/// tensor cores want.
const ROW_ALIGN: usize = 8;

/// How many rows' logits exist at a time, and what that takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadPlan {
    /// Rows of logits that exist at a time.
    pub chunk_rows: usize,
    /// Elements from one row of logits to the next.
    pub stride: usize,
    /// Bytes of logits in the forward pass.
    pub forward_bytes: usize,
    /// Bytes of logits and their gradient in the backward pass.
    pub backward_bytes: usize,
}

impl HeadPlan {
    /// The most rows whose logits, and gradient of logits where it does not take their place, fit `budget_bytes`; one
    /// at least. Never more bytes than with all rows at a time and no padding.
    ///
    /// # Errors
    /// [`LossError::Empty`] for a size of 0, [`LossError::Overflow`], [`LossError::TooMany`].
    ///
    /// ```
    /// use ama_loss::HeadShape;
    /// use ama_loss::cuda::HeadPlan;
    /// let shape = HeadShape { rows: 16 * 1024, hidden: 4096, vocab: 128 << 10 };
    /// let plan = HeadPlan::new::<half::bf16>(shape, 512 << 20)?;
    /// let naive = shape.rows * shape.vocab * (4 + 2);
    /// assert!(plan.backward_bytes <= 512 << 20 && plan.backward_bytes * 4 <= naive);
    /// # Ok::<(), ama_loss::LossError>(())
    /// ```
    pub fn new<T: Operand>(shape: HeadShape, budget_bytes: usize) -> Result<Self, LossError> {
        let HeadShape { rows, hidden, vocab } = shape;
        check_some("rows", rows)?;
        check_some("hidden", hidden)?;
        check_some("vocab", vocab)?;
        size("rows", rows)?;
        size("vocab", vocab)?;
        elements("hidden", rows, hidden)?;
        elements("weight", vocab, hidden)?;
        let all = elements("logits", rows, vocab)?;
        let per_logit = size_of::<f32>() + T::GRADIENT_BYTES;
        let chunk_of = |stride: usize| (budget_bytes / (stride * per_logit)).clamp(1, rows);
        let padded = vocab.next_multiple_of(ROW_ALIGN);
        let stride = if chunk_of(padded) * padded <= all { padded } else { vocab };
        let chunk_rows = chunk_of(stride);
        let logits = chunk_rows * stride;
        Ok(Self {
            chunk_rows,
            stride,
            forward_bytes: logits * size_of::<f32>(),
            backward_bytes: logits * per_logit,
        })
    }

    /// The chunks of `rows` rows.
    fn chunks(self, rows: usize) -> impl Iterator<Item = Range<usize>> {
        (0..rows).step_by(self.chunk_rows).map(move |first| first..(first + self.chunk_rows).min(rows))
    }
}

/// Types of hidden states and weights: `f32` and `bf16`.
pub trait Operand: sealed::Sealed + Sized {
    /// Bytes of a logit's gradient besides the logit, whose place it takes if it has the same type.
    const GRADIENT_BYTES: usize;

    /// Room for gradients that do not take the logits' place.
    #[doc(hidden)]
    type Room;

    #[doc(hidden)]
    fn room(kernels: &Kernels, stream: &Arc<CudaStream>, len: usize) -> Result<Self::Room, LossError>;

    /// The gradient of some rows' logits, which are given up.
    #[doc(hidden)]
    fn gradient<'a>(
        kernels: &Kernels,
        stream: &Arc<CudaStream>,
        logits: &'a mut Tracked<f32>,
        room: &'a mut Self::Room,
        rows: &RowInputs<'_>,
    ) -> Result<CudaView<'a, Self>, LossError>;
}

/// What the gradient of some rows' logits depends on besides them.
#[doc(hidden)]
#[derive(Debug)]
pub struct RowInputs<'a> {
    targets: CudaView<'a, u32>,
    lse: CudaView<'a, f32>,
    upstream: CudaView<'a, f32>,
    shape: LogitsShape,
    ignored: u32,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::bf16 {}
}

impl Operand for f32 {
    const GRADIENT_BYTES: usize = 0;
    type Room = ();

    fn room(_: &Kernels, _: &Arc<CudaStream>, _: usize) -> Result<(), LossError> {
        Ok(())
    }

    fn gradient<'a>(
        kernels: &Kernels,
        stream: &Arc<CudaStream>,
        logits: &'a mut Tracked<f32>,
        (): &'a mut (),
        rows: &RowInputs<'_>,
    ) -> Result<CudaView<'a, f32>, LossError> {
        let RowInputs { targets, lse, upstream, shape, ignored } = rows;
        let mut view = logits.as_view_mut();
        kernels.logp_backward_in_place(stream, &mut view, targets, lse, upstream, *shape, *ignored)?;
        Ok(logits.as_view())
    }
}

impl Operand for bf16 {
    const GRADIENT_BYTES: usize = size_of::<bf16>();
    type Room = Tracked<bf16>;

    fn room(kernels: &Kernels, stream: &Arc<CudaStream>, len: usize) -> Result<Tracked<bf16>, LossError> {
        kernels.ledger().alloc(stream, "gradient of logits", len)
    }

    fn gradient<'a>(
        kernels: &Kernels,
        stream: &Arc<CudaStream>,
        logits: &'a mut Tracked<f32>,
        room: &'a mut Tracked<bf16>,
        rows: &RowInputs<'_>,
    ) -> Result<CudaView<'a, bf16>, LossError> {
        let RowInputs { targets, lse, upstream, shape, ignored } = rows;
        let (x, mut d_x) = (logits.as_view(), room.as_view_mut());
        kernels.logp_backward(stream, &x, targets, lse, upstream, *shape, *ignored, &mut d_x)?;
        Ok(room.as_view())
    }
}

/// What the forward pass leaves on the device.
#[derive(Debug)]
pub struct DeviceLogp {
    /// `[rows]`: log-probability of the target, nats; 0 for ignored rows.
    pub logp: Tracked<f32>,
    /// `[rows][2]`: largest logit and `ln sum e^(x - largest)` of every row.
    pub lse: Tracked<f32>,
    /// `[rows]`: entropy of every row's distribution in nats, if it was asked for.
    pub entropy: Option<Tracked<f32>>,
}

/// The operands of the head, on the device. Lengths are checked when a pass runs.
#[derive(Debug)]
pub struct LinearLogp<'a, T> {
    /// `H` `[rows, hidden]`, row-major.
    pub hidden: CudaView<'a, T>,
    /// `W` `[vocab, hidden]`, row-major, as Hugging Face stores it.
    pub weight: CudaView<'a, T>,
    /// `t` `[rows]`, each below `vocab`, or `ignored`.
    pub targets: CudaView<'a, u32>,
    /// Sizes.
    pub shape: HeadShape,
    /// Mark of rows without a target, see [`IGNORED`](super::IGNORED). Their logits are computed and not looked at:
    /// leave such rows out where it is easy.
    pub ignored: u32,
    /// Most bytes of logits and their gradient that may exist at a time, unless one row takes more (256 MiB is a good
    /// value: products of a few hundred rows keep a GPU busy).
    pub budget_bytes: usize,
}

impl<T: Operand> LinearLogp<'_, T> {
    /// `log_softmax(hidden weight^T)[target]` of every row, keeping no logits.
    ///
    /// # Errors
    /// [`LossError::Length`], [`LossError::Empty`], [`LossError::Overflow`], [`LossError::TooMany`],
    /// [`LossError::DeviceMemory`], [`LossError::OtherDevice`], [`LossError::Cublas`], [`LossError::Driver`].
    pub fn forward(&self, kernels: &Kernels, gemm: &impl Gemm<T>) -> Result<DeviceLogp, LossError> {
        self.forward_to(kernels, gemm, false)
    }

    /// As [`forward`](Self::forward), with the entropy of every row from the same read of its logits.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_with_entropy(
        &self,
        kernels: &Kernels,
        gemm: &impl Gemm<T>,
    ) -> Result<DeviceLogp, LossError> {
        self.forward_to(kernels, gemm, true)
    }

    fn forward_to(
        &self,
        kernels: &Kernels,
        gemm: &impl Gemm<T>,
        entropy: bool,
    ) -> Result<DeviceLogp, LossError> {
        let plan = self.check(kernels)?;
        let (stream, rows) = (gemm.stream(), self.shape.rows);
        kernels.check_stream(stream)?;
        let alloc = |what, len| kernels.ledger().alloc::<f32>(stream, what, len);
        let mut out = DeviceLogp {
            logp: alloc("log-probabilities", rows)?,
            lse: alloc("log-sum-exps", 2 * rows)?,
            entropy: if entropy { Some(alloc("entropies", rows)?) } else { None },
        };
        let mut logits = alloc("logits", plan.chunk_rows * plan.stride)?;
        for chunk in plan.chunks(rows) {
            self.logits(gemm, plan, chunk.clone(), &mut logits)?;
            let mut to = LogpOut {
                logp: out.logp.slice_mut(chunk.clone()),
                lse: out.lse.slice_mut(2 * chunk.start..2 * chunk.end),
                entropy: out.entropy.as_mut().map(|entropy| entropy.slice_mut(chunk.clone())),
            };
            let (targets, shape) = (self.targets.slice(chunk.clone()), self.chunk_shape(plan, &chunk));
            kernels.logp_forward(stream, &logits.as_view(), &targets, shape, self.ignored, &mut to)?;
        }
        Ok(out)
    }

    /// Adds `d loss / d hidden` to `d_hidden` and `d loss / d weight` to `d_weight`; `None` is a frozen head.
    ///
    /// # Shapes
    /// `lse` `[rows][2]` (of the forward pass), `upstream` (`d loss / d logp`) `[rows]`; `d_hidden` `[rows, hidden]`,
    /// `d_weight` `[vocab, hidden]`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn backward(
        &self,
        kernels: &Kernels,
        gemm: &impl Gemm<T>,
        lse: &CudaView<'_, f32>,
        upstream: &CudaView<'_, f32>,
        d_hidden: &mut CudaViewMut<'_, f32>,
        mut d_weight: Option<&mut CudaViewMut<'_, f32>>,
    ) -> Result<(), LossError> {
        let plan = self.check(kernels)?;
        let (stream, HeadShape { rows, hidden, vocab }) = (gemm.stream(), self.shape);
        kernels.check_stream(stream)?;
        let context = kernels.context();
        check_slice(context, "lse", lse, 2 * rows)?;
        check_slice(context, "upstream", upstream, rows)?;
        check_slice(context, "d_hidden", d_hidden, rows * hidden)?;
        if let Some(d_weight) = &d_weight {
            check_slice(context, "d_weight", &**d_weight, vocab * hidden)?;
        }
        let room = plan.chunk_rows * plan.stride;
        let mut logits = kernels.ledger().alloc::<f32>(stream, "logits", room)?;
        let mut gradients = T::room(kernels, stream, room)?;
        for chunk in plan.chunks(rows) {
            self.logits(gemm, plan, chunk.clone(), &mut logits)?;
            let inputs = RowInputs {
                targets: self.targets.slice(chunk.clone()),
                lse: lse.slice(2 * chunk.start..2 * chunk.end),
                upstream: upstream.slice(chunk.clone()),
                shape: self.chunk_shape(plan, &chunk),
                ignored: self.ignored,
            };
            let data = T::gradient(kernels, stream, &mut logits, &mut gradients, &inputs)?;
            let d_x = Matrix { data, rows: chunk.len(), cols: vocab, stride: plan.stride, transposed: false };
            let mut d_h = MatrixMut {
                data: d_hidden.slice_mut(chunk.start * hidden..chunk.end * hidden),
                rows: chunk.len(),
                cols: hidden,
                stride: hidden,
            };
            gemm.multiply(&mut d_h, true, &d_x, &Matrix::row_major(self.weight.slice(..), vocab, hidden))?;
            if let Some(d_weight) = &mut d_weight {
                let data = d_weight.slice_mut(..);
                let mut d_w = MatrixMut { data, rows: vocab, cols: hidden, stride: hidden };
                gemm.multiply(&mut d_w, true, &d_x.t(), &self.rows_of_hidden(&chunk))?;
            }
        }
        Ok(())
    }

    /// The logits of `chunk`, `plan.stride` apart.
    fn logits(
        &self,
        gemm: &impl Gemm<T>,
        plan: HeadPlan,
        chunk: Range<usize>,
        logits: &mut Tracked<f32>,
    ) -> Result<(), LossError> {
        let HeadShape { hidden, vocab, .. } = self.shape;
        let data = logits.as_view_mut();
        let mut x = MatrixMut { data, rows: chunk.len(), cols: vocab, stride: plan.stride };
        let weight = Matrix::row_major(self.weight.slice(..), vocab, hidden);
        gemm.multiply(&mut x, false, &self.rows_of_hidden(&chunk), &weight.t())
    }

    fn rows_of_hidden(&self, chunk: &Range<usize>) -> Matrix<'_, T> {
        let d = self.shape.hidden;
        Matrix::row_major(self.hidden.slice(chunk.start * d..chunk.end * d), chunk.len(), d)
    }

    fn chunk_shape(&self, plan: HeadPlan, chunk: &Range<usize>) -> LogitsShape {
        LogitsShape { rows: chunk.len(), vocab: self.shape.vocab, stride: plan.stride }
    }

    /// Checks the operands before anything is enqueued.
    fn check(&self, kernels: &Kernels) -> Result<HeadPlan, LossError> {
        let plan = HeadPlan::new::<T>(self.shape, self.budget_bytes)?;
        let HeadShape { rows, hidden, vocab } = self.shape;
        check_slice(kernels.context(), "hidden", &self.hidden, rows * hidden)?;
        check_slice(kernels.context(), "weight", &self.weight, vocab * hidden)?;
        check_slice(kernels.context(), "targets", &self.targets, rows)?;
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_memory_than_all_logits_at_once() {
        for rows in [1, 2, 7, 8, 100, 16_384] {
            for vocab in [1, 7, 8, 9, 31, 1025, 4099, 131_072, 151_936, 262_144] {
                for budget in [0, 1, 1 << 10, 1 << 20, 1 << 30, 1 << 40] {
                    let shape = HeadShape { rows, hidden: 4, vocab };
                    let (single, half) = (
                        HeadPlan::new::<f32>(shape, budget).unwrap(),
                        HeadPlan::new::<bf16>(shape, budget).unwrap(),
                    );
                    for (plan, per_logit) in [(single, 4), (half, 6)] {
                        assert!(plan.stride >= vocab && plan.stride < vocab + ROW_ALIGN);
                        assert!((1..=rows).contains(&plan.chunk_rows));
                        assert_eq!(plan.forward_bytes, 4 * plan.chunk_rows * plan.stride);
                        assert_eq!(plan.backward_bytes, per_logit * plan.chunk_rows * plan.stride);
                        let naive = rows * vocab * per_logit;
                        assert!(plan.backward_bytes <= naive, "{shape:?} {budget}: {plan:?}");
                        let one = per_logit * plan.stride;
                        assert!(plan.backward_bytes <= budget.max(one), "{shape:?} {budget}: {plan:?}");
                        // As many rows as fit.
                        assert!(plan.chunk_rows == rows || plan.backward_bytes + one > budget);
                    }
                }
            }
        }
    }

    #[test]
    fn chunks_cover_all_rows_once() {
        let plan = HeadPlan::new::<f32>(HeadShape { rows: 10, hidden: 1, vocab: 8 }, 4 * 32).unwrap();
        assert_eq!(plan.chunks(10).collect::<Vec<_>>(), [0..4, 4..8, 8..10]);
    }

    #[test]
    fn a_quarter_of_the_memory_at_16k_rows_and_128k_tokens() {
        let shape = HeadShape { rows: 16 * 1024, hidden: 4096, vocab: 128 << 10 };
        let logits = shape.rows * shape.vocab;
        let plan = HeadPlan::new::<bf16>(shape, 256 << 20).unwrap();
        assert_eq!(plan.chunk_rows, 341);
        assert!(4 * plan.backward_bytes <= 4 * logits, "against f32 logits alone, without their gradient");
        assert!(4 * plan.backward_bytes <= logits * 2, "against bf16 logits alone");
    }
}
