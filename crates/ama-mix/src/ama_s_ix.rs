//! AMA-S with implicit exploration.

use crate::mixer::{check_possible, check_update};
use crate::{
    DrawRule, ExcessScale, LogWeights, MixError, Mixer, MixerState, Plan, TaskExcess, average::AlphaAverage,
    error::check_not_negative, scale::ScaleTracker,
};

/// [`AmaS`](crate::AmaS) with the bandit Exp3-IX (Neu 2015, "Explore no more", arXiv:1506.03271)
/// in place of Exp3: no share of the batch is given to uniform exploration; the estimates are biased towards tasks
/// that were seldom drawn instead, which bounds their variance.
///
/// Exp3-IX is about losses in `[0, 1]`, so the adversary's loss is what a task lacks to the largest excess. Each of the
/// `B` pairs of a batch draws its task from `alpha`, the model steps on the unweighted mean, and
///
/// ```text
/// M       <- scale of the excess, with this step's mean excess already in it
/// l_i      = (n_i / B) (1 - e_i / M) / (alpha_i + gamma)     n_i pairs of task i, e_i their mean excess
/// alpha_i <- alpha_i exp(-eta l_i), normalised
/// ```
///
/// With [`ExcessScale::Fixed`]`(M)`, `M` a bound of the excess, `l_i >= 0` as in the paper; over a running scale an
/// excess above `M` counts as a loss below 0.
///
/// # Compared with
/// Public implementations that cite the paper: `loss / (alpha_i + gamma)` for the arm drawn, weights
/// `exp(-eta sum loss)`, `gamma = eta / 2`, and over a known horizon [`horizon_eta`](Self::horizon_eta). On purpose
/// otherwise: the mean over `B` draws in place of one draw (with one pair a step it is theirs), and the losses above.
#[derive(Debug, Clone)]
pub struct AmaSIx {
    gamma: f64,
    eta: f64,
    weights: LogWeights,
    ones: Vec<f64>,
    scale: ScaleTracker,
    average: AlphaAverage,
}

impl AmaSIx {
    /// A mixer over `tasks` tasks that starts from equal weights. `gamma` is the implicit exploration, `eta` the step
    /// over the scale, both dimensionless.
    ///
    /// # Errors
    /// [`MixError::NoTasks`]; [`MixError::BadSetting`] on a `gamma` that is not a finite value > 0, an `eta` that is
    /// negative or not finite, or a bad `scale`.
    pub fn new(tasks: usize, gamma: f64, eta: f64, scale: ExcessScale) -> Result<Self, MixError> {
        if !(gamma.is_finite() && gamma > 0.0) {
            return Err(MixError::BadSetting { name: "gamma", value: gamma, want: "a finite value > 0" });
        }
        check_not_negative("eta", eta)?;
        Ok(Self {
            gamma,
            eta,
            weights: LogWeights::uniform(tasks)?,
            ones: vec![1.0; tasks],
            scale: ScaleTracker::new(scale)?,
            average: AlphaAverage::new(tasks),
        })
    }

    /// `eta = 2 gamma = sqrt(2 ln k / (k T))` (Neu 2015).
    pub fn horizon_eta(tasks: usize, steps: u64) -> f64 {
        let k = tasks.max(2) as f64;
        (2.0 * k.ln() / (k * steps.max(1) as f64)).sqrt()
    }
}

impl Mixer for AmaSIx {
    fn name(&self) -> &'static str {
        "ama-s-ix"
    }

    fn plan(&self) -> Plan<'_> {
        Plan { draw: DrawRule::Sampled, sampling: self.alpha(), loss_weight: &self.ones }
    }

    fn update(&mut self, tasks: &[TaskExcess]) -> Result<(), MixError> {
        let pairs = check_update(self.weights.tasks(), tasks)? as f64;
        check_possible(self.alpha(), tasks)?;
        self.average.push(self.weights.weights());
        let (eta, gamma, scale) = (self.eta, self.gamma, self.scale.observe(tasks));
        let alpha = self.weights.weights().to_vec();
        self.weights.exponentiate(|task| match tasks[task] {
            TaskExcess { drawn: 0, .. } => 0.0,
            TaskExcess { drawn, mean_excess_nats } => {
                let importance = drawn as f64 / pairs / (alpha[task] + gamma);
                -eta * importance * (1.0 - mean_excess_nats / scale)
            }
        });
        Ok(())
    }

    fn alpha(&self) -> &[f64] {
        self.weights.weights()
    }

    fn loss_weight_depends_on_batch(&self) -> bool {
        false
    }

    fn excess_scale(&self) -> Option<f64> {
        self.scale.current()
    }

    fn averaged_alpha(&self) -> Vec<f64> {
        self.average.mean_or(self.alpha())
    }

    fn state(&self) -> MixerState {
        MixerState::of(self.name(), &self.average).with_weights(&self.weights).with_scale(&self.scale)
    }

    fn restore(&mut self, state: &MixerState) -> Result<(), MixError> {
        let average = state.average(self.name(), self.weights.tasks())?;
        let weights = state.log_weights(self.weights.tasks())?;
        state.no_per_task()?;
        self.scale = self.scale.restored(state.running_scale)?;
        (self.average, self.weights) = (average, weights);
        Ok(())
    }
}
