//! ODM: online data mixing by a bandit that prefers tasks of high loss.

use crate::mixer::check_update;
use crate::simplex::LOG_LIMIT;
use crate::{
    DrawRule, ExcessScale, LogWeights, MixError, Mixer, MixerState, Plan, TaskExcess, average::AlphaAverage,
    mix_with_uniform, scale::ScaleTracker,
};

/// Online Data Mixing (Albalak et al. 2023, arXiv:2312.02406, algorithm 1): Exp3 over tasks whose reward is the
/// training loss, smoothed over steps rather than summed up, so that it follows a model that learns.
///
/// Each of the `B` pairs of a batch draws its task from `alpha`, and the model steps on the unweighted mean. With
/// `E_0 = 1/k`, `E_t = min(1/k, sqrt(ln k / (k t)))` and `r_i = 0` at first, step `t` is
///
/// ```text
/// alpha_i  = (1 - k E_t) exp(E_{t-1} r_i) / sum_j exp(E_{t-1} r_j) + E_t
/// r_i     <- a r_i + (1 - a) (n_i / B) (l_i / M) / alpha_i       for the tasks in the batch
/// ```
///
/// with `n_i` the pairs of task `i` in the batch, `l_i` their mean loss and `a` the smoothing. The paper feeds the raw
/// loss ([`ExcessMode::Raw`](crate::ExcessMode::Raw)) of a language model in nats (`M` = 1). Since `E_t` falls, `alpha`
/// goes to uniform unless the rewards are far apart: preference losses are smaller than those of language models, so a
/// smaller `M` may be wanted.
///
/// # Compared with
/// `alpha` and `E_t` are those of `Exp3WeightUpdater` in the authors' repository (alon-albalak/online-data-mixing,
/// `megatron/data/data_sampling_utils.py`), but for the step: there the policy of step `t + 1` has `E_t` and `E_{t-1}`,
/// in notes on the paper (dmarx/anthology-of-the-sota, NOTE-002) `alpha_t` has `E_t` and `E_{t-1}`, as here. That class
/// adds up `l_i / 10 / alpha_i`; the smoothed reward here is that of a re-implementation that
/// cites the paper (WrinkleFree's `OnlineDataMixer`).
/// The class that the authors' README calls the paper's, known here from copies in other repositories, differs from
/// both: it smooths `exp(l_i)`, without `1 / alpha_i`, and for a batch of several tasks its `alpha` is proportional to
/// the reward, without `exp`.
///
/// On purpose otherwise: a source draws one task for each micro-batch, and `n_i / B` makes the estimate the mean over the
/// draws of a step, so that with many pairs the reward is close to the plain loss (with one pair a step it is the
/// sources'); the run starts from equal weights without a warm-up (2,000 steps in the authors' scripts).
#[derive(Debug, Clone)]
pub struct Odm {
    smoothing: f64,
    reward: Vec<f64>,
    alpha: Vec<f64>,
    ones: Vec<f64>,
    scale: ScaleTracker,
    average: AlphaAverage,
}

impl Odm {
    /// Smoothing by default in copies of the authors' class; some of their run scripts have 0.5.
    pub const DEFAULT_SMOOTHING: f64 = 0.9;

    /// A mixer over `tasks` tasks that starts from equal weights. `smoothing` is the weight of the past in the rewards,
    /// `scale` the unit of the loss.
    ///
    /// # Errors
    /// [`MixError::NoTasks`]; [`MixError::BadSetting`] on a `smoothing` outside `[0, 1)` or a bad `scale`.
    pub fn new(tasks: usize, smoothing: f64, scale: ExcessScale) -> Result<Self, MixError> {
        if !(0.0..1.0).contains(&smoothing) {
            return Err(MixError::BadSetting {
                name: "smoothing",
                value: smoothing,
                want: "a value in [0, 1)",
            });
        }
        if tasks == 0 {
            return Err(MixError::NoTasks);
        }
        let (scale, average) = (ScaleTracker::new(scale)?, AlphaAverage::new(tasks));
        let (reward, alpha, ones) = (vec![0.0; tasks], vec![0.0; tasks], vec![1.0; tasks]);
        let mut new = Self { smoothing, reward, alpha, ones, scale, average };
        new.mix()?;
        Ok(new)
    }

    /// `E_t`, the least probability of a task in step `t`.
    fn exploration(&self, step: u64) -> f64 {
        let k = self.reward.len() as f64;
        // At t = 0 the root is infinite, so that E_0 = 1/k.
        (k.ln() / (k * step as f64)).sqrt().min(1.0 / k)
    }

    /// `alpha` of the step after those taken.
    fn mix(&mut self) -> Result<(), MixError> {
        let (before, now) =
            (self.exploration(self.average.steps()), self.exploration(self.average.steps() + 1));
        let q = LogWeights::from_logs(self.reward.iter().map(|reward| before * reward).collect())?;
        mix_with_uniform(q.weights(), now * self.reward.len() as f64, &mut self.alpha);
        Ok(())
    }
}

impl Mixer for Odm {
    fn name(&self) -> &'static str {
        "odm"
    }

    fn plan(&self) -> Plan<'_> {
        Plan { draw: DrawRule::Sampled, sampling: &self.alpha, loss_weight: &self.ones }
    }

    fn update(&mut self, tasks: &[TaskExcess]) -> Result<(), MixError> {
        let pairs = check_update(self.reward.len(), tasks)? as f64;
        self.average.push(&self.alpha);
        let scale = self.scale.observe(tasks);
        for ((reward, alpha), seen) in self.reward.iter_mut().zip(&self.alpha).zip(tasks) {
            if seen.drawn > 0 {
                let estimate = seen.drawn as f64 / pairs / alpha * (seen.mean_excess_nats / scale);
                let estimate = estimate.clamp(-LOG_LIMIT, LOG_LIMIT);
                *reward = self.smoothing * *reward + (1.0 - self.smoothing) * estimate;
            }
        }
        self.mix()
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
        MixerState::of(self.name(), &self.average).with_scale(&self.scale).with_per_task(&self.reward)
    }

    fn restore(&mut self, state: &MixerState) -> Result<(), MixError> {
        let average = state.average(self.name(), self.reward.len())?;
        let reward = state.per_task(self.reward.len())?;
        state.no_log_weights()?;
        self.scale = self.scale.restored(state.running_scale)?;
        (self.average, self.reward) = (average, reward);
        self.mix()
    }
}
