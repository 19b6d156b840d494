//! AMA-S: resampling.

use crate::mixer::{check_possible, check_update};
use crate::{
    DrawRule, ExcessScale, LogWeights, MixError, Mixer, MixerState, Plan, TaskExcess, average::AlphaAverage,
    error::check_not_negative, mix_with_uniform, scale::ScaleTracker,
};

/// AutoMixAlign by resampling (arXiv:2506.00569, AMA-S; the bandit is Exp3, Auer et al. 2002, "The
/// nonstochastic multiarmed bandit problem").
///
/// Each of the `B` pairs of a batch draws its task from `alpha`, and the model steps on the **unweighted**
/// mean of their excess. The importance weight enters the update of `q` only:
///
/// ```text
/// alpha    = (1 - c) q + c/k
/// M       <- scale of the excess, with this step's mean excess already in it
/// e_i      = (1 / (B alpha_i)) * sum of the excess of the batch's pairs of task i
/// q_i     <- q_i exp(eta e_i / M), normalised
/// ```
///
/// `alpha` is nowhere below `c/k`; weights stay finite and on the simplex for any finite excess.
#[derive(Debug, Clone)]
pub struct AmaS {
    c: f64,
    eta: f64,
    q: LogWeights,
    alpha: Vec<f64>,
    ones: Vec<f64>,
    scale: ScaleTracker,
    average: AlphaAverage,
}

impl AmaS {
    /// A mixer over `tasks` tasks that starts from equal weights. `c` is the share of uniform exploration;
    /// `eta` the step over the scale, dimensionless.
    ///
    /// # Errors
    /// [`MixError::NoTasks`]; [`MixError::BadSetting`] on a `c` outside `[0, 1]`, an `eta` that is negative or
    /// not finite, or a bad `scale`.
    pub fn new(tasks: usize, c: f64, eta: f64, scale: ExcessScale) -> Result<Self, MixError> {
        if !(0.0..=1.0).contains(&c) {
            return Err(MixError::BadSetting { name: "c", value: c, want: "a value in [0, 1]" });
        }
        check_not_negative("eta", eta)?;
        let q = LogWeights::uniform(tasks)?;
        let scale = ScaleTracker::new(scale)?;
        let (alpha, ones, average) = (vec![0.0; tasks], vec![1.0; tasks], AlphaAverage::new(tasks));
        let mut new = Self { c, eta, q, alpha, ones, scale, average };
        new.mix();
        Ok(new)
    }

    /// The untuned default for a run of `steps` steps: [`horizon_c`](Self::horizon_c), `eta = c/k`, the
    /// running scale.
    ///
    /// # Errors
    /// [`MixError::NoTasks`].
    pub fn horizon_tuned(tasks: usize, steps: u64) -> Result<Self, MixError> {
        let c = Self::horizon_c(tasks, steps);
        Self::new(tasks, c, c / tasks.max(1) as f64, ExcessScale::default())
    }

    /// `c = min(1, sqrt(k ln k / ((e - 1) T)))` (Auer et al. 2002, corollary 3.2).
    pub fn horizon_c(tasks: usize, steps: u64) -> f64 {
        let k = tasks.max(1) as f64;
        (k * k.ln() / ((std::f64::consts::E - 1.0) * steps.max(1) as f64)).sqrt().min(1.0)
    }

    fn mix(&mut self) {
        mix_with_uniform(self.q.weights(), self.c, &mut self.alpha);
    }
}

impl Mixer for AmaS {
    fn name(&self) -> &'static str {
        "ama-s"
    }

    fn plan(&self) -> Plan<'_> {
        Plan { draw: DrawRule::Sampled, sampling: &self.alpha, loss_weight: &self.ones }
    }

    fn update(&mut self, tasks: &[TaskExcess]) -> Result<(), MixError> {
        let pairs = check_update(self.q.tasks(), tasks)? as f64;
        check_possible(&self.alpha, tasks)?;
        self.average.push(&self.alpha);
        let (eta, scale, alpha) = (self.eta, self.scale.observe(tasks), &self.alpha);
        self.q.exponentiate(|task| match tasks[task] {
            TaskExcess { drawn: 0, .. } => 0.0,
            TaskExcess { drawn, mean_excess_nats } => {
                let importance = drawn as f64 / pairs / alpha[task];
                eta * importance * (mean_excess_nats / scale)
            }
        });
        self.mix();
        Ok(())
    }

    fn alpha(&self) -> &[f64] {
        &self.alpha
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
        MixerState::of(self.name(), &self.average).with_weights(&self.q).with_scale(&self.scale)
    }

    fn restore(&mut self, state: &MixerState) -> Result<(), MixError> {
        let average = state.average(self.name(), self.q.tasks())?;
        let q = state.log_weights(self.q.tasks())?;
        state.no_per_task()?;
        self.scale = self.scale.restored(state.running_scale)?;
        (self.average, self.q) = (average, q);
        self.mix();
        Ok(())
    }
}
