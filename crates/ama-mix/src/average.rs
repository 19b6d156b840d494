//! The mean of the mixture over the steps so far.

use crate::MixError;

/// Running mean of alpha over the steps taken, `alpha_bar_T = (1/T) sum_t alpha_t`: what the convergence
/// guarantee of the minimax game is about, and an ablation ("averaged or last").
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlphaAverage {
    steps: u64,
    sum: Vec<f64>,
}

impl AlphaAverage {
    pub(crate) fn new(tasks: usize) -> Self {
        Self { steps: 0, sum: vec![0.0; tasks] }
    }

    pub(crate) fn push(&mut self, alpha: &[f64]) {
        self.steps += 1;
        for (sum, alpha) in self.sum.iter_mut().zip(alpha) {
            *sum += alpha;
        }
    }

    /// The mean, or `now` before the first step.
    pub(crate) fn mean_or(&self, now: &[f64]) -> Vec<f64> {
        if self.steps == 0 {
            return now.to_vec();
        }
        self.sum.iter().map(|sum| sum / self.steps as f64).collect()
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn sum(&self) -> &[f64] {
        &self.sum
    }

    pub(crate) fn restored(steps: u64, sum: &[f64]) -> Result<Self, MixError> {
        if sum.iter().all(|&sum| sum.is_finite() && sum >= 0.0) {
            Ok(Self { steps, sum: sum.to_vec() })
        } else {
            Err(MixError::StateField { field: "alpha_sum" })
        }
    }
}
