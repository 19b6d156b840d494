//! AMA-R: reweighting.

use crate::mixer::check_update;
use crate::{
    DrawRule, ExcessScale, LogWeights, MixError, Mixer, MixerState, Plan, TaskExcess, average::AlphaAverage,
    error::check_not_negative, scale::ScaleTracker,
};

/// AutoMixAlign by reweighting (arXiv:2506.00569, AMA-R; the order of Group DRO, Sagawa et al. 2020,
/// arXiv:1911.08731, algorithm 1).
///
/// A batch holds equally many pairs of every task; `e_i` is the mean excess of task `i`'s pairs. Then
///
/// ```text
/// M       <- scale of the excess, with this step's e already in it
/// alpha_i <- alpha_i exp(eta e_i / M), normalised
/// loss     = sum_i alpha_i e_i                       with the new alpha
/// ```
///
/// A task without a pair in the batch keeps its log-weight. Weights stay finite and on the simplex for any
/// finite excess.
#[derive(Debug, Clone)]
pub struct AmaR {
    eta: f64,
    uniform: Vec<f64>,
    weights: LogWeights,
    scale: ScaleTracker,
    average: AlphaAverage,
}

impl AmaR {
    /// A mixer over `tasks` tasks that starts from equal weights. `eta` is the step over the scale,
    /// dimensionless.
    ///
    /// # Errors
    /// [`MixError::NoTasks`]; [`MixError::BadSetting`] on an `eta` that is negative or not finite, or a bad
    /// `scale`.
    pub fn new(tasks: usize, eta: f64, scale: ExcessScale) -> Result<Self, MixError> {
        check_not_negative("eta", eta)?;
        let weights = LogWeights::uniform(tasks)?;
        Ok(Self {
            eta,
            uniform: weights.weights().to_vec(),
            weights,
            scale: ScaleTracker::new(scale)?,
            average: AlphaAverage::new(tasks),
        })
    }

    /// `2 / steps`: over the running scale, a task that is the worst throughout gains `exp(2)` in a run.
    ///
    /// The step of the theory (`sqrt(8 ln k / T) / M`, [`hedge_eta`](Self::hedge_eta)) collapses the weights
    /// onto one task in practice.
    pub fn default_eta(steps: u64) -> f64 {
        2.0 / steps.max(1) as f64
    }

    /// `sqrt(8 ln k / T)`: the Hedge step of the convergence guarantee, for excess in `[0, M]` and
    /// [`ExcessScale::Fixed`]`(M)`.
    pub fn hedge_eta(tasks: usize, steps: u64) -> f64 {
        (8.0 * (tasks.max(1) as f64).ln() / steps.max(1) as f64).sqrt()
    }

    pub(crate) fn state_as(&self, name: &'static str) -> MixerState {
        MixerState::of(name, &self.average).with_weights(&self.weights).with_scale(&self.scale)
    }

    pub(crate) fn restore_as(&mut self, name: &'static str, state: &MixerState) -> Result<(), MixError> {
        let average = state.average(name, self.weights.tasks())?;
        let weights = state.log_weights(self.weights.tasks())?;
        state.no_per_task()?;
        self.scale = self.scale.restored(state.running_scale)?;
        (self.average, self.weights) = (average, weights);
        Ok(())
    }
}

impl Mixer for AmaR {
    fn name(&self) -> &'static str {
        "ama-r"
    }

    fn plan(&self) -> Plan<'_> {
        Plan { draw: DrawRule::Stratified, sampling: &self.uniform, loss_weight: self.weights.weights() }
    }

    fn update(&mut self, tasks: &[TaskExcess]) -> Result<(), MixError> {
        check_update(self.weights.tasks(), tasks)?;
        let (eta, scale) = (self.eta, self.scale.observe(tasks));
        self.weights.exponentiate(|task| match tasks[task] {
            TaskExcess { drawn: 0, .. } => 0.0,
            TaskExcess { mean_excess_nats, .. } => eta * mean_excess_nats / scale,
        });
        self.average.push(self.weights.weights());
        Ok(())
    }

    fn alpha(&self) -> &[f64] {
        self.weights.weights()
    }

    fn loss_weight_depends_on_batch(&self) -> bool {
        true
    }

    fn excess_scale(&self) -> Option<f64> {
        self.scale.current()
    }

    fn averaged_alpha(&self) -> Vec<f64> {
        self.average.mean_or(self.alpha())
    }

    fn state(&self) -> MixerState {
        self.state_as(self.name())
    }

    fn restore(&mut self, state: &MixerState) -> Result<(), MixError> {
        self.restore_as(self.name(), state)
    }
}
