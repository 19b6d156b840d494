//! From settings to the types of `ama-train` and `ama-loss`.

use ama_loss::{LossError, PreferenceKind, PreferenceLoss};
use ama_train::{AdamWOptions, Budget, Schedule, TrainOptions};

use super::settings::{Decay, Length, LossKind, LossSettings, Training, Warmup};

impl LossSettings {
    /// The loss of `ama-loss`.
    ///
    /// # Errors
    /// A constant out of range.
    pub(crate) fn build(&self) -> Result<PreferenceLoss, LossError> {
        let label_smoothing = self.label_smoothing;
        let kind = match self.kind {
            LossKind::Sigmoid => PreferenceKind::Sigmoid { label_smoothing },
            LossKind::Ipo => PreferenceKind::Ipo,
            LossKind::Hinge => PreferenceKind::Hinge,
            LossKind::Robust => PreferenceKind::Robust { label_smoothing },
        };
        PreferenceLoss::new(kind, self.beta, self.sft_weight)
    }

    /// The loss in one line, as loss tables record it.
    pub(crate) fn text(&self) -> String {
        format!(
            "{:?} beta={:?} label_smoothing={:?} sft_weight={:?}",
            self.kind, self.beta, self.label_smoothing, self.sft_weight
        )
        .to_lowercase()
    }
}

impl Training {
    /// Options of `ama-train` for a data set of `examples`; epochs become steps.
    pub(crate) fn options(&self, examples: usize) -> TrainOptions {
        let budget = match self.length {
            Length::Steps(steps) => Budget::Steps(steps),
            Length::Tokens(tokens) => Budget::Tokens(tokens),
            Length::Epochs(epochs) => {
                let steps = (epochs * examples as f64 / self.batch as f64).ceil();
                Budget::Steps((steps as u64).max(1))
            }
        };
        let decay = match self.decay {
            Decay::Constant => ama_train::Decay::Constant,
            Decay::Linear => ama_train::Decay::Linear,
            Decay::Cosine => ama_train::Decay::Cosine,
        };
        let warmup = match self.warmup {
            Warmup::Steps(steps) => ama_train::Warmup::Steps(steps),
            Warmup::Ratio(ratio) => ama_train::Warmup::Fraction(ratio),
        };
        TrainOptions {
            budget,
            schedule: Schedule { peak: self.lr, warmup, decay, min_ratio: self.min_lr_ratio },
            optimiser: AdamWOptions { betas: self.betas, eps: self.eps, weight_decay: self.weight_decay },
            clip_norm: self.clip,
            micro_batch_tokens: self.passes.micro_batch_tokens,
            checkpoint_activations: self.passes.checkpoint_activations,
        }
    }
}
