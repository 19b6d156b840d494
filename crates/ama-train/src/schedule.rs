//! How long a run is, and the learning rate along it.

use crate::TrainError;

/// Length of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// This many optimiser steps.
    Steps(u64),
    /// Steps until at least this many tokens (as TRL counts them) have been trained on.
    Tokens(u64),
}

impl Budget {
    /// The amount in the budget's own unit.
    #[must_use]
    pub fn amount(self) -> u64 {
        match self {
            Self::Steps(n) | Self::Tokens(n) => n,
        }
    }

    /// Position of a run within the budget, in the budget's unit.
    #[must_use]
    pub fn position(self, steps: u64, tokens: u64) -> u64 {
        match self {
            Self::Steps(_) => steps,
            Self::Tokens(_) => tokens,
        }
    }

    /// Whether a run that has done `steps` and `tokens` is over.
    #[must_use]
    pub fn spent(self, steps: u64, tokens: u64) -> bool {
        self.position(steps, tokens) >= self.amount()
    }

    /// Steps this budget comes to when a step has `tokens_per_step` tokens on average (at least 1).
    #[must_use]
    pub fn expected_steps(self, tokens_per_step: f64) -> u64 {
        match self {
            Self::Steps(n) => n.max(1),
            Self::Tokens(n) => ((n as f64 / tokens_per_step.max(1.0)).ceil() as u64).max(1),
        }
    }
}

/// Shape of the learning rate after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// Stays at the peak.
    Constant,
    /// Falls in a straight line to `min_ratio` of the peak.
    Linear,
    /// Falls along half a cosine to `min_ratio` of the peak.
    Cosine,
}

/// How long the rate rises at the beginning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Warmup {
    /// A number of steps. With a token budget it is a share of the expected number of steps.
    Steps(u64),
    /// A fraction of the budget, in `[0, 1]`.
    Fraction(f64),
}

/// Learning-rate schedule: linear warm-up, then [`Decay`].
///
/// The factor for a step that takes the run from position `a` to `b` of a budget `n` with warm-up `w` is
/// `min(1, b/w) * decay((a - w)/(n - w))`: the first step of a warm-up already moves
/// (`transformers` starts at 0 and so wastes a step).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Peak learning rate.
    pub peak: f64,
    /// Warm-up.
    pub warmup: Warmup,
    /// Shape after it.
    pub decay: Decay,
    /// Floor as a share of the peak, in `[0, 1]`; `transformers` uses 0.
    pub min_ratio: f64,
}

impl Schedule {
    /// A constant rate without warm-up.
    #[must_use]
    pub fn constant(peak: f64) -> Self {
        Self { peak, warmup: Warmup::Steps(0), decay: Decay::Constant, min_ratio: 0.0 }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`TrainError::Setting`] names the value that is out of range.
    pub fn validate(&self) -> Result<(), TrainError> {
        if !(self.peak.is_finite() && self.peak > 0.0) {
            return Err(TrainError::Setting {
                name: "lr",
                value: self.peak.to_string(),
                want: "a finite value > 0",
            });
        }
        if let Warmup::Fraction(f) = self.warmup
            && !(0.0..=1.0).contains(&f)
        {
            return Err(TrainError::Setting {
                name: "warmup_ratio",
                value: f.to_string(),
                want: "a value in [0, 1]",
            });
        }
        if !(0.0..=1.0).contains(&self.min_ratio) {
            let value = self.min_ratio.to_string();
            return Err(TrainError::Setting { name: "min_lr_ratio", value, want: "a value in [0, 1]" });
        }
        Ok(())
    }

    /// Learning rate of the step from position `before` to position `after` of `budget`;
    /// `expected_steps` turns warm-up steps into the budget's unit.
    #[must_use]
    pub fn rate(&self, budget: Budget, expected_steps: u64, before: u64, after: u64) -> f64 {
        let total = budget.amount().max(1) as f64;
        let warm = match self.warmup {
            Warmup::Steps(n) => n as f64 * total / expected_steps.max(1) as f64,
            Warmup::Fraction(f) => f * total,
        };
        let rise = if warm > 0.0 { (after as f64 / warm).min(1.0) } else { 1.0 };
        let along =
            if total > warm { ((before as f64 - warm) / (total - warm)).clamp(0.0, 1.0) } else { 0.0 };
        let shape = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - along,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * along).cos()),
        };
        self.peak
            * rise
            * (self.min_ratio
                + (1.0 - self.min_ratio) * if self.decay == Decay::Constant { 1.0 } else { shape })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_then_decays_to_the_floor() {
        let s = Schedule { peak: 2.0, warmup: Warmup::Steps(4), decay: Decay::Linear, min_ratio: 0.1 };
        let budget = Budget::Steps(14);
        let lr: Vec<f64> = (0..14).map(|i| s.rate(budget, 14, i, i + 1)).collect();
        assert_eq!(&lr[..4], &[0.5, 1.0, 1.5, 2.0]);
        assert_eq!(lr[4], 2.0, "the first step after warm-up is at the peak");
        // 9 of 10 steps down: 1 - 0.9 * 0.9 of the peak
        assert!((lr[13] - 2.0 * (0.1 + 0.9 * 0.1)).abs() < 1e-12);
        assert!(lr[4..].windows(2).all(|w| w[1] < w[0]));
    }

    #[test]
    fn token_budget_uses_token_positions() {
        let s = Schedule { peak: 1.0, warmup: Warmup::Fraction(0.5), decay: Decay::Cosine, min_ratio: 0.0 };
        let budget = Budget::Tokens(1000);
        assert!((s.rate(budget, 10, 0, 100) - 0.2).abs() < 1e-12);
        assert!((s.rate(budget, 10, 750, 850) - 0.5).abs() < 1e-12, "half-way down the cosine");
        assert!(budget.spent(1, 1000) && !budget.spent(1_000_000, 999));
        assert_eq!(budget.expected_steps(96.0), 11);
    }

    #[test]
    fn refuses_bad_ranges() {
        for lr in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Schedule::constant(lr).validate().is_err());
        }
        let s = Schedule { min_ratio: 1.5, ..Schedule::constant(1.0) };
        assert!(s.validate().unwrap_err().to_string().contains("min_lr_ratio"));
    }
}
