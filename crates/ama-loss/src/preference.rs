//! Preference losses of one pair: value and gradient, from summed log-probabilities.
//!
//! Symbols: `c`, `r` the log-probability of the chosen and the rejected completion under the policy, `c_ref`, `r_ref`
//! under the reference, all summed over the completion's tokens, in nats; `|c|`, `|r|` its tokens; `beta` > 0;
//! `m = beta ((c - c_ref) - (r - r_ref))` the margin. Definitions and scalings are those of TRL 1.16
//! (`trl/trainer/dpo_trainer.py`), with two additions that TRL dropped: label smoothing of the sigmoid loss
//! (`cDPO`) and the per-pair SFT term (`rpo_alpha`).
//!
//! Everything is `f64` on a handful of scalars. The device variant (`cuda/preference.cu`) is for batches that are there
//! already, and does the same in `f64`.

use crate::LossError;

/// Which preference loss.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum PreferenceKind {
    /// DPO, Rafailov et al. 2023 (arXiv 2305.18290), eq. 7: `-ln sigmoid(m)`; with smoothing `e` (Mitchell 2023,
    /// "cDPO"): `-(1 - e) ln sigmoid(m) - e ln sigmoid(-m)`.
    Sigmoid {
        /// `e`: probability that a label is wrong, in `[0, 0.5)`; 0 is plain DPO.
        label_smoothing: f64,
    },
    /// IPO, Azar et al. 2023 (arXiv 2310.12036), eq. 17: `(h - 1/(2 beta))^2`. As in TRL 1.16 (and confirmed to its
    /// authors), `h = (c - c_ref)/|c| - (r - r_ref)/|r|`: averages per token, not sums.
    Ipo,
    /// SLiC hinge, Zhao et al. 2023 (arXiv 2305.10425) as adapted by Liu et al. 2023 (arXiv 2309.06657):
    /// `max(0, 1 - m)`; the gradient at the kink is 0.
    Hinge,
    /// Robust DPO, Chowdhury et al. 2024 (arXiv 2403.00409):
    /// `(-(1 - e) ln sigmoid(m) + e ln sigmoid(-m)) / (1 - 2e)`, unbiased under a share `e` of flipped labels.
    /// May be negative.
    Robust {
        /// `e`: share of flipped labels, in `[0, 0.5)`.
        label_smoothing: f64,
    },
}

/// A preference loss with its validated hyper-parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PreferenceLoss {
    kind: PreferenceKind,
    beta: f64,
    sft_weight: f64,
}

/// Log-probabilities of one pair in nats, summed over the tokens of the completion, and the completions' lengths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairLogps {
    /// `c`: chosen completion under the policy.
    pub chosen: f64,
    /// `r`: rejected completion under the policy.
    pub rejected: f64,
    /// `c_ref`: chosen completion under the reference.
    pub ref_chosen: f64,
    /// `r_ref`: rejected completion under the reference.
    pub ref_rejected: f64,
    /// `|c|`: tokens of the chosen completion (0 counts as 1, as in TRL).
    pub chosen_tokens: u32,
    /// `|r|`: tokens of the rejected completion (0 counts as 1, as in TRL).
    pub rejected_tokens: u32,
}

/// The loss of one pair, its gradient, and the quantities that are logged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairLoss {
    /// The loss in nats (squared nats for IPO), SFT term included.
    pub loss_nats: f64,
    /// `chosen_reward - rejected_reward`; TRL's `rewards/margins`.
    pub margin: f64,
    /// `beta (c - c_ref)`; TRL's `rewards/chosen`.
    pub chosen_reward: f64,
    /// `beta (r - r_ref)`; TRL's `rewards/rejected`.
    pub rejected_reward: f64,
    /// Derivative of the loss with respect to `c`.
    pub d_chosen: f64,
    /// Derivative of the loss with respect to `r`.
    pub d_rejected: f64,
}

impl PreferenceLoss {
    /// A loss of the given kind with `beta` and the weight `gamma` of the SFT term `gamma * (-c / |c|)`
    /// (TRL's former `rpo_alpha`; Pang et al. 2024, arXiv 2404.19733, eq. 1); 0 switches it off.
    ///
    /// # Errors
    /// [`LossError::Parameter`] unless `beta` is finite and positive, `sft_weight` finite and not negative, and label
    /// smoothing in `[0, 0.5)`.
    pub fn new(kind: PreferenceKind, beta: f64, sft_weight: f64) -> Result<Self, LossError> {
        if !(beta.is_finite() && beta > 0.0) {
            return Err(LossError::Parameter { name: "beta", value: beta, want: "a finite value > 0" });
        }
        if !(sft_weight.is_finite() && sft_weight >= 0.0) {
            return Err(LossError::Parameter {
                name: "sft_weight",
                value: sft_weight,
                want: "a finite value >= 0",
            });
        }
        if let PreferenceKind::Sigmoid { label_smoothing } | PreferenceKind::Robust { label_smoothing } = kind
            && !(0.0..0.5).contains(&label_smoothing)
        {
            return Err(LossError::Parameter {
                name: "label_smoothing",
                value: label_smoothing,
                want: "a value in [0, 0.5)",
            });
        }
        Ok(Self { kind, beta, sft_weight })
    }

    /// Which loss.
    pub fn kind(&self) -> PreferenceKind {
        self.kind
    }

    /// `beta`, dimensionless.
    pub fn beta(&self) -> f64 {
        self.beta
    }

    /// `gamma`, the weight of the SFT term, dimensionless.
    pub fn sft_weight(&self) -> f64 {
        self.sft_weight
    }

    /// Loss and gradient of one pair.
    ///
    /// `ln sigmoid` is computed as `min(m, 0) - ln_1p(exp(-|m|))`, so finite inputs give finite results at any margin.
    /// NaN in a log-probability gives a NaN loss and NaN gradients; nothing is hidden.
    ///
    /// # Example
    /// ```
    /// use ama_loss::{PairLogps, PreferenceKind, PreferenceLoss};
    /// let dpo = PreferenceLoss::new(PreferenceKind::Sigmoid { label_smoothing: 0.0 }, 0.1, 0.0)?;
    /// let pair = PairLogps {
    ///     chosen: -20.0, rejected: -30.0, ref_chosen: -20.0, ref_rejected: -30.0,
    ///     chosen_tokens: 7, rejected_tokens: 9,
    /// };
    /// let loss = dpo.evaluate(&pair);
    /// assert!((loss.loss_nats - std::f64::consts::LN_2).abs() < 1e-15);
    /// assert!((loss.d_chosen + 0.05).abs() < 1e-15);
    /// # Ok::<(), ama_loss::LossError>(())
    /// ```
    pub fn evaluate(&self, pair: &PairLogps) -> PairLoss {
        let chosen_ratio = pair.chosen - pair.ref_chosen;
        let rejected_ratio = pair.rejected - pair.ref_rejected;
        let chosen_tokens = f64::from(pair.chosen_tokens.max(1));
        let rejected_tokens = f64::from(pair.rejected_tokens.max(1));
        let m = self.beta * (chosen_ratio - rejected_ratio);
        // Slope with respect to the log-ratio of the chosen and of the rejected completion.
        let (mut loss_nats, mut d_chosen, d_rejected) = match self.kind {
            PreferenceKind::Sigmoid { label_smoothing: e } => {
                let loss = -(1.0 - e) * ln_sigmoid(m) - weighted(e, ln_sigmoid(-m));
                let slope = self.beta * (weighted(e, sigmoid(m)) - (1.0 - e) * sigmoid(-m));
                (loss, slope, -slope)
            }
            PreferenceKind::Robust { label_smoothing: e } => {
                let scale = 1.0 / (1.0 - 2.0 * e);
                let loss = scale * (weighted(e, ln_sigmoid(-m)) - (1.0 - e) * ln_sigmoid(m));
                let slope = -self.beta * scale * ((1.0 - e) * sigmoid(-m) + weighted(e, sigmoid(m)));
                (loss, slope, -slope)
            }
            PreferenceKind::Hinge => {
                let gap = 1.0 - m;
                let slope = match gap {
                    g if g.is_nan() => g,
                    g if g > 0.0 => -self.beta,
                    _ => 0.0,
                };
                (if gap <= 0.0 { 0.0 } else { gap }, slope, -slope)
            }
            PreferenceKind::Ipo => {
                let h = chosen_ratio / chosen_tokens - rejected_ratio / rejected_tokens;
                let gap = h - 1.0 / (2.0 * self.beta);
                (gap * gap, 2.0 * gap / chosen_tokens, -2.0 * gap / rejected_tokens)
            }
        };
        if self.sft_weight > 0.0 {
            loss_nats -= self.sft_weight * pair.chosen / chosen_tokens;
            d_chosen -= self.sft_weight / chosen_tokens;
        }
        let chosen_reward = self.beta * chosen_ratio;
        let rejected_reward = self.beta * rejected_ratio;
        PairLoss {
            loss_nats,
            margin: chosen_reward - rejected_reward,
            chosen_reward,
            rejected_reward,
            d_chosen,
            d_rejected,
        }
    }
}

/// `weight * value`, 0 if the weight is (so that a term that is off cannot bring in `0 * inf`).
fn weighted(weight: f64, value: f64) -> f64 {
    if weight == 0.0 { 0.0 } else { weight * value }
}

/// `ln(1 / (1 + e^-x))` without overflow or cancellation.
fn ln_sigmoid(x: f64) -> f64 {
    let floor = if x > 0.0 { 0.0 } else { x };
    floor - (-x.abs()).exp().ln_1p()
}

/// `1 / (1 + e^-x)` without overflow.
fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}
