//! The ablation "alpha averaged or last": a mixer whose model steps with the mean of its weights.

use crate::{MixError, Mixer, MixerState, Plan, TaskExcess};

/// Any mixer, but the model steps with the mean of `alpha` over the steps so far in place of the last one: the
/// average is what the convergence guarantee is about, the last is what the paper trains with.
///
/// The inner mixer learns and draws as it would alone. What changes is the factor on a task's loss:
///
/// ```text
/// weight_i' = weight_i mean_t(alpha_t,i) / alpha_i
/// ```
///
/// For a mixer that reweights (`weight_i = alpha_i`) that is the mean itself. For one that resamples (`weight_i = 1`)
/// the batch still comes from `alpha`, whose exploration the bandit needs, and the ratio makes the expected gradient
/// that of the mean; there the mean is over the steps *before* this one.
pub struct Averaged {
    inner: Box<dyn Mixer + Send>,
    mean: Vec<f64>,
    loss_weight: Vec<f64>,
}

impl std::fmt::Debug for Averaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Averaged").field("inner", &self.inner.name()).field("mean", &self.mean).finish()
    }
}

impl Averaged {
    /// `inner` with averaged weights.
    pub fn new(inner: Box<dyn Mixer + Send>) -> Self {
        let mut new = Self { inner, mean: Vec::new(), loss_weight: Vec::new() };
        new.weigh();
        new
    }

    fn weigh(&mut self) {
        self.mean = self.inner.averaged_alpha();
        let (plan, alpha) = (self.inner.plan(), self.inner.alpha());
        let weight = |((&weight, &mean), &alpha): ((&f64, &f64), &f64)| match alpha {
            // A mixer that reweights: no ratio, which a weight that underflowed would not have.
            _ if weight == alpha => mean,
            0.0 => 0.0,
            _ => (weight * mean / alpha).min(f64::MAX),
        };
        self.loss_weight = plan.loss_weight.iter().zip(&self.mean).zip(alpha).map(weight).collect();
    }
}

impl Mixer for Averaged {
    /// The inner mixer's: a state can go from one to the other.
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn plan(&self) -> Plan<'_> {
        Plan { loss_weight: &self.loss_weight, ..self.inner.plan() }
    }

    fn update(&mut self, tasks: &[TaskExcess]) -> Result<(), MixError> {
        self.inner.update(tasks)?;
        self.weigh();
        Ok(())
    }

    fn alpha(&self) -> &[f64] {
        &self.mean
    }

    fn loss_weight_depends_on_batch(&self) -> bool {
        self.inner.loss_weight_depends_on_batch()
    }

    fn excess_scale(&self) -> Option<f64> {
        self.inner.excess_scale()
    }

    fn averaged_alpha(&self) -> Vec<f64> {
        self.mean.clone()
    }

    fn state(&self) -> MixerState {
        self.inner.state()
    }

    fn restore(&mut self, state: &MixerState) -> Result<(), MixError> {
        self.inner.restore(state)?;
        self.weigh();
        Ok(())
    }
}
