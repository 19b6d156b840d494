//! Preference losses of a batch of pairs in one launch; see `preference.cu`.
//!
//! # Safety of this file
//! The launch passes exactly the parameters of its kernel, in order; every array holds an element per pair.
#![allow(unsafe_code)]

use std::sync::Arc;

use cudarc::driver::{CudaStream, CudaView, CudaViewMut};

use super::kernels::Kernels;
use super::launch::{Launch, check_slice, per_element, size};
use super::memory::Tracked;
use crate::error::check_some;
use crate::{LossError, PreferenceKind, PreferenceLoss};

/// Threads of a block.
const THREADS: u32 = 128;

/// Log-probabilities of `[pairs]` in nats, summed over each completion's tokens, and the completions' lengths.
#[derive(Debug)]
pub struct PairArrays<'a> {
    /// Chosen completions under the policy.
    pub chosen: CudaView<'a, f64>,
    /// Rejected completions under the policy.
    pub rejected: CudaView<'a, f64>,
    /// Chosen completions under the reference.
    pub ref_chosen: CudaView<'a, f64>,
    /// Rejected completions under the reference.
    pub ref_rejected: CudaView<'a, f64>,
    /// Tokens of the chosen completions (0 counts as 1).
    pub chosen_tokens: CudaView<'a, u32>,
    /// Tokens of the rejected completions (0 counts as 1).
    pub rejected_tokens: CudaView<'a, u32>,
    /// Factor on each pair's gradient, say `task weight / pairs`; `None` is 1.
    pub weight: Option<CudaView<'a, f64>>,
}

/// What is made of a pair's loss and a cached one, `[pairs]` in nats (AutoMixAlign, arXiv 2506.00569: the
/// specialist's).
#[derive(Debug)]
pub enum Excess<'a> {
    /// The loss itself.
    Raw,
    /// `loss - cached`.
    Unclipped {
        /// The cached losses.
        cached: CudaView<'a, f64>,
    },
    /// `max(loss - cached, 0)`.
    Clipped {
        /// The cached losses.
        cached: CudaView<'a, f64>,
        /// Whether a pair at or below its cached loss gives no gradient.
        clip_gradient: bool,
    },
}

/// Losses of a batch and their gradients, on the device; `[pairs]` unless said otherwise.
#[derive(Debug)]
pub struct PairLosses {
    /// The loss in nats (squared nats for IPO), SFT term included.
    pub loss: Tracked<f64>,
    /// `chosen_reward - rejected_reward`.
    pub margin: Tracked<f64>,
    /// `beta (c - c_ref)`.
    pub chosen_reward: Tracked<f64>,
    /// `beta (r - r_ref)`.
    pub rejected_reward: Tracked<f64>,
    /// As [`Excess`] says, nats.
    pub excess: Tracked<f64>,
    /// `[2 pairs]`: weight times derivative of the loss with respect to the chosen completions, then the rejected
    /// ones; 0 for clipped pairs.
    pub d_sums: Tracked<f64>,
}

impl Kernels {
    /// Loss, gradient and excess of every pair: [`PreferenceLoss::evaluate`] in one launch, in `f64` as there.
    ///
    /// # Errors
    /// [`LossError::Length`], [`LossError::Empty`], [`LossError::TooMany`], [`LossError::DeviceMemory`],
    /// [`LossError::OtherDevice`], [`LossError::Driver`].
    pub fn preference(
        &self,
        stream: &Arc<CudaStream>,
        loss: &PreferenceLoss,
        pairs: &PairArrays<'_>,
        excess: &Excess<'_>,
    ) -> Result<PairLosses, LossError> {
        self.check_stream(stream)?;
        let n = pairs.chosen.len();
        check_some("pairs", n)?;
        let count = size("pairs", n)?;
        let sums = [
            ("chosen", Some(&pairs.chosen)),
            ("rejected", Some(&pairs.rejected)),
            ("ref_chosen", Some(&pairs.ref_chosen)),
            ("ref_rejected", Some(&pairs.ref_rejected)),
            ("weight", pairs.weight.as_ref()),
            ("cached", excess.cached()),
        ];
        for (what, slice) in sums {
            if let Some(slice) = slice {
                check_slice(self.context(), what, slice, n)?;
            }
        }
        check_slice(self.context(), "chosen_tokens", &pairs.chosen_tokens, n)?;
        check_slice(self.context(), "rejected_tokens", &pairs.rejected_tokens, n)?;
        let alloc = |what, len| self.ledger().alloc::<f64>(stream, what, len);
        let mut out = PairLosses {
            loss: alloc("losses", n)?,
            margin: alloc("margins", n)?,
            chosen_reward: alloc("rewards", n)?,
            rejected_reward: alloc("rewards", n)?,
            excess: alloc("excess losses", n)?,
            d_sums: alloc("gradients of sums", 2 * n)?,
        };
        let (mut d_chosen, mut d_rejected): (CudaViewMut<'_, f64>, _) = out.d_sums.split_at_mut(n);
        let (kind, label_smoothing) = number_of(loss.kind());
        let (beta, sft_weight, null) = (loss.beta(), loss.sft_weight(), 0u64);
        let (mode, clip_gradient) = excess.numbers();
        let mut launch = Launch::new(stream, &self.preference);
        launch.arg(&pairs.chosen).arg(&pairs.rejected).arg(&pairs.ref_chosen).arg(&pairs.ref_rejected);
        launch.arg(&pairs.chosen_tokens).arg(&pairs.rejected_tokens);
        for slice in [excess.cached(), pairs.weight.as_ref()] {
            match slice {
                Some(slice) => launch.arg(slice),
                None => launch.arg(&null),
            };
        }
        launch.arg(&mut *out.loss).arg(&mut *out.margin).arg(&mut *out.chosen_reward);
        launch.arg(&mut *out.rejected_reward).arg(&mut *out.excess).arg(&mut d_chosen).arg(&mut d_rejected);
        launch.arg(&count).arg(&kind).arg(&beta).arg(&label_smoothing).arg(&sft_weight);
        launch.arg(&mode).arg(&clip_gradient);
        // SAFETY: `ama_preference_f64(chosen, rejected, ref_chosen, ref_rejected, chosen_tokens, rejected_tokens,
        // cached, weight, loss, margin, chosen_reward, rejected_reward, excess, d_chosen, d_rejected, pairs, kind,
        // beta, label_smoothing, sft_weight, mode, clip_gradient)`. `weight` may be null, and `cached` with mode RAW,
        // which has none here.
        unsafe { launch.run("computing preference losses", per_element(count, THREADS)) }?;
        Ok(out)
    }
}

impl<'a> Excess<'a> {
    fn cached(&self) -> Option<&CudaView<'a, f64>> {
        match self {
            Self::Raw => None,
            Self::Unclipped { cached } | Self::Clipped { cached, .. } => Some(cached),
        }
    }

    /// `mode` and `clip_gradient` as `preference.cu` numbers them.
    fn numbers(&self) -> (u32, u32) {
        match self {
            Self::Raw => (0, 0),
            Self::Unclipped { .. } => (1, 0),
            Self::Clipped { clip_gradient, .. } => (2, u32::from(*clip_gradient)),
        }
    }
}

/// `kind` as `preference.cu` numbers it, and its label smoothing.
fn number_of(kind: PreferenceKind) -> (u32, f64) {
    match kind {
        PreferenceKind::Sigmoid { label_smoothing } => (0, label_smoothing),
        PreferenceKind::Ipo => (1, 0.0),
        PreferenceKind::Hinge => (2, 0.0),
        PreferenceKind::Robust { label_smoothing } => (3, label_smoothing),
    }
}
