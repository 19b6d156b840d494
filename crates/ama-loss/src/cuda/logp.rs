//! Log-probabilities of targets from logits on the device; see `logp.cu` for equations, numerics and parameters.
//!
//! # Safety of this file
//! Each launch passes exactly the parameters of its kernel, in order: pointers as views, sizes as `u32`, strides as
//! `u64`. The kernel touches the elements that its comment names, which the checks before the launch have shown to
//! exist; targets that are no tokens of the vocabulary are not followed.
#![allow(unsafe_code)]

use std::sync::Arc;

use cudarc::driver::{CudaFunction, CudaStream, CudaView, CudaViewMut, DevicePtrMut, DeviceRepr};
use half::bf16;

use super::kernels::Kernels;
use super::launch::{Launch, check_device, check_slice, per_row, size};
use crate::{LogitsShape, LossError};

/// The customary mark of a row without a target: log-probability 0, no gradient, its logits are not read. Hugging
/// Face's `-100` is `-100i32 as u32`.
pub const IGNORED: u32 = u32::MAX;

/// Types of logits: `f32` and `bf16`.
pub trait Logit: DeviceRepr + sealed::Sealed {
    #[doc(hidden)]
    fn forward(kernels: &Kernels, entropy: bool) -> &CudaFunction;
}

impl Logit for f32 {
    fn forward(kernels: &Kernels, entropy: bool) -> &CudaFunction {
        if entropy { &kernels.entropy_forward_f32 } else { &kernels.forward_f32 }
    }
}

impl Logit for bf16 {
    fn forward(kernels: &Kernels, entropy: bool) -> &CudaFunction {
        if entropy { &kernels.entropy_forward_bf16 } else { &kernels.forward_bf16 }
    }
}

/// Types that the gradient of logits of type `L` can be stored in: `L` itself, and `bf16` for `f32`.
pub trait GradientOf<L>: DeviceRepr + sealed::Sealed {
    #[doc(hidden)]
    fn backward(kernels: &Kernels) -> &CudaFunction;
}

impl GradientOf<f32> for f32 {
    fn backward(kernels: &Kernels) -> &CudaFunction {
        &kernels.backward_f32
    }
}

impl GradientOf<bf16> for bf16 {
    fn backward(kernels: &Kernels) -> &CudaFunction {
        &kernels.backward_bf16
    }
}

impl GradientOf<f32> for bf16 {
    fn backward(kernels: &Kernels) -> &CudaFunction {
        &kernels.backward_f32_bf16
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::bf16 {}
}

/// Where the forward pass writes.
#[derive(Debug)]
pub struct LogpOut<'a> {
    /// `[rows]`: log-probability of the target, nats; 0 for ignored rows.
    pub logp: CudaViewMut<'a, f32>,
    /// `[rows][2]`: the row's largest logit and `ln sum e^(x - largest)`; their sum is the log-sum-exp. Two numbers,
    /// because one `f32` would cost `|lse| 6e-8` of the softmax.
    pub lse: CudaViewMut<'a, f32>,
    /// `[rows]`: entropy of the row's distribution, nats; from the same read.
    pub entropy: Option<CudaViewMut<'a, f32>>,
}

impl Kernels {
    /// `log_softmax(logits)[target]` of every row; reads each logit once.
    ///
    /// A row with NaN or `+inf`, or of `-inf` only, or with a target outside of the vocabulary, gets NaN; the other
    /// rows do not notice. (On the device the targets cannot be looked at beforehand.)
    ///
    /// # Shapes
    /// `logits` as `shape` says, `targets` `[rows]`, each below `vocab` or `ignored`.
    ///
    /// # Errors
    /// [`LossError::Length`], [`LossError::Empty`], [`LossError::Strides`], [`LossError::Overflow`],
    /// [`LossError::TooMany`], [`LossError::OtherDevice`], [`LossError::Driver`].
    pub fn logp_forward<T: Logit>(
        &self,
        stream: &Arc<CudaStream>,
        logits: &CudaView<'_, T>,
        targets: &CudaView<'_, u32>,
        shape: LogitsShape,
        ignored: u32,
        out: &mut LogpOut<'_>,
    ) -> Result<(), LossError> {
        let context = self.context();
        self.check_stream(stream)?;
        shape.check("logits", logits.len())?;
        check_device(context, "logits", logits)?;
        check_slice(context, "targets", targets, shape.rows)?;
        check_slice(context, "logp", &out.logp, shape.rows)?;
        check_slice(context, "lse", &out.lse, 2 * shape.rows)?;
        if let Some(entropy) = &out.entropy {
            check_slice(context, "entropy", entropy, shape.rows)?;
        }
        let (rows, vocab) = (size("rows", shape.rows)?, size("vocab", shape.vocab)?);
        let stride = shape.stride as u64;
        let mut launch = Launch::new(stream, T::forward(self, out.entropy.is_some()));
        launch.arg(logits).arg(targets).arg(&mut out.logp).arg(&mut out.lse);
        if let Some(entropy) = &mut out.entropy {
            launch.arg(entropy);
        }
        launch.arg(&rows).arg(&vocab).arg(&stride).arg(&ignored);
        // SAFETY: `ama_logp_forward_*(logits, targets, logp, lse, rows, vocab, stride, ignored)`, with `entropy`
        // after `lse` in `ama_logp_entropy_forward_*`; lengths were checked above.
        unsafe { launch.run("computing log-probabilities", per_row::<T>(rows, vocab)) }
    }

    /// `d loss / d logits` into `d_logits`, which has the shape of `logits` and is overwritten.
    ///
    /// Ignored rows and rows whose upstream gradient is 0 are not read; their gradient is 0.
    ///
    /// # Shapes
    /// `logits`, `d_logits` as `shape` says; `targets`, `upstream` (`d loss / d logp`) `[rows]`; `lse` `[rows][2]`,
    /// of the forward pass.
    ///
    /// # Errors
    /// As [`logp_forward`](Self::logp_forward).
    #[allow(clippy::too_many_arguments, reason = "the operands of one kernel")]
    pub fn logp_backward<L: Logit, G: GradientOf<L>>(
        &self,
        stream: &Arc<CudaStream>,
        logits: &CudaView<'_, L>,
        targets: &CudaView<'_, u32>,
        lse: &CudaView<'_, f32>,
        upstream: &CudaView<'_, f32>,
        shape: LogitsShape,
        ignored: u32,
        d_logits: &mut CudaViewMut<'_, G>,
    ) -> Result<(), LossError> {
        shape.check("logits", logits.len())?;
        check_device(self.context(), "logits", logits)?;
        let (rows, vocab) =
            self.check_backward(stream, targets, lse, upstream, shape, "d_logits", d_logits)?;
        let stride = shape.stride as u64;
        let mut launch = Launch::new(stream, G::backward(self));
        launch.arg(logits).arg(targets).arg(lse).arg(upstream).arg(d_logits);
        launch.arg(&rows).arg(&vocab).arg(&stride).arg(&stride).arg(&ignored);
        // SAFETY: `ama_logp_backward_*(logits, targets, lse, upstream, d_logits, rows, vocab, stride, d_stride,
        // ignored)`; lengths were checked above.
        unsafe { launch.run("computing the gradient of logits", per_row::<G>(rows, vocab)) }
    }

    /// As [`logp_backward`](Self::logp_backward), turning the logits themselves into their gradient.
    ///
    /// # Errors
    /// As [`logp_forward`](Self::logp_forward).
    #[allow(clippy::too_many_arguments, reason = "the operands of one kernel")]
    pub fn logp_backward_in_place<T: Logit + GradientOf<T>>(
        &self,
        stream: &Arc<CudaStream>,
        logits: &mut CudaViewMut<'_, T>,
        targets: &CudaView<'_, u32>,
        lse: &CudaView<'_, f32>,
        upstream: &CudaView<'_, f32>,
        shape: LogitsShape,
        ignored: u32,
    ) -> Result<(), LossError> {
        let (rows, vocab) = self.check_backward(stream, targets, lse, upstream, shape, "logits", logits)?;
        let stride = shape.stride as u64;
        // The builder wants the view twice; what is ordered by its events is the write, and that covers the read.
        let (pointer, _written) = logits.device_ptr_mut(stream);
        let mut launch = Launch::new(stream, T::backward(self));
        launch.arg(&pointer).arg(targets).arg(lse).arg(upstream).arg(&pointer);
        launch.arg(&rows).arg(&vocab).arg(&stride).arg(&stride).arg(&ignored);
        // SAFETY: the parameters of `ama_logp_backward_*`, as above. `d_logits` may be `logits`: a thread reads an
        // element, and the target's besides its own, before it alone writes it, and types and strides are the same.
        unsafe { launch.run("computing the gradient of logits", per_row::<T>(rows, vocab)) }
    }

    #[allow(clippy::too_many_arguments, reason = "the operands of one kernel")]
    fn check_backward<G>(
        &self,
        stream: &CudaStream,
        targets: &CudaView<'_, u32>,
        lse: &CudaView<'_, f32>,
        upstream: &CudaView<'_, f32>,
        shape: LogitsShape,
        what: &'static str,
        out: &CudaViewMut<'_, G>,
    ) -> Result<(u32, u32), LossError> {
        let context = self.context();
        self.check_stream(stream)?;
        shape.check(what, out.len())?;
        check_device(context, what, out)?;
        check_slice(context, "targets", targets, shape.rows)?;
        check_slice(context, "lse", lse, 2 * shape.rows)?;
        check_slice(context, "upstream", upstream, shape.rows)?;
        Ok((size("rows", shape.rows)?, size("vocab", shape.vocab)?))
    }
}
