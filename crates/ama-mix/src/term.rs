//! TERM: tilted empirical risk minimisation over tasks.

use crate::mixer::check_update;
use crate::{DrawRule, LogWeights, MixError, Mixer, MixerState, Plan, TaskExcess, average::AlphaAverage};

/// Tilted empirical risk minimisation over tasks (Li et al. 2020, arXiv:2007.01162): the objective is
/// `(1/t) log((1/k) sum_i exp(t l_i))`, a soft maximum of the tasks' losses for `t > 0`, their mean as `t` goes to 0 and
/// a soft minimum for `t < 0`. Its gradient weighs the tasks' own gradients:
///
/// ```text
/// alpha_i = exp(t l_i) / sum_j exp(t l_j)
/// loss    = sum_i alpha_i l_i                          with alpha held constant
/// ```
///
/// A batch holds equally many pairs of every task; `l_i` is the mean loss of task `i`'s pairs, raw
/// ([`ExcessMode::Raw`](crate::ExcessMode::Raw)) in the paper. A task without a pair in the batch counts with the loss it
/// last had, 0 at first. There is nothing to learn: with [`AmaR`](crate::AmaR) the weights remember the steps before,
/// here they follow from the batch.
///
/// # Compared with
/// The authors' code (litian96/TERM) has the same exponentials: `fair_flearn/flearn/trainers/tilting.py` over clients,
/// `hierarchical/mixed_level1.py` and `class_imbalance/mnist/mnist_train_tilting.py` over classes.
///
/// On purpose otherwise: tasks count alike, as its clients do, where its classes count by size (`n_i exp(t l_i)`); the
/// weights sum to 1 in every step, where its clients' are divided by a running mean of `exp(t l)`; and within a task the
/// loss is the plain mean, which is its tilt of samples at 0.
#[derive(Debug, Clone)]
pub struct Term {
    tilt: f64,
    uniform: Vec<f64>,
    loss: Vec<f64>,
    weights: LogWeights,
    average: AlphaAverage,
}

impl Term {
    /// A tilt of one per nat: a loss 0.7 nats higher gives twice the weight.
    pub const DEFAULT_TILT: f64 = 1.0;

    /// A mixer over `tasks` tasks. `tilt` is `t`, in 1/nats.
    ///
    /// # Errors
    /// [`MixError::NoTasks`]; [`MixError::BadSetting`] on a `tilt` that is not finite.
    pub fn new(tasks: usize, tilt: f64) -> Result<Self, MixError> {
        if !tilt.is_finite() {
            return Err(MixError::BadSetting { name: "tilt", value: tilt, want: "a finite value" });
        }
        let weights = LogWeights::uniform(tasks)?;
        let uniform = weights.weights().to_vec();
        Ok(Self { tilt, uniform, loss: vec![0.0; tasks], weights, average: AlphaAverage::new(tasks) })
    }

    fn weigh(&self) -> Result<LogWeights, MixError> {
        let mut weights = LogWeights::uniform(self.loss.len())?;
        weights.exponentiate(|task| self.tilt * self.loss[task]);
        Ok(weights)
    }
}

impl Mixer for Term {
    fn name(&self) -> &'static str {
        "term"
    }

    fn plan(&self) -> Plan<'_> {
        Plan { draw: DrawRule::Stratified, sampling: &self.uniform, loss_weight: self.weights.weights() }
    }

    fn update(&mut self, tasks: &[TaskExcess]) -> Result<(), MixError> {
        check_update(self.loss.len(), tasks)?;
        for (loss, seen) in self.loss.iter_mut().zip(tasks).filter(|(_, seen)| seen.drawn > 0) {
            *loss = seen.mean_excess_nats;
        }
        self.weights = self.weigh()?;
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
        None
    }

    fn averaged_alpha(&self) -> Vec<f64> {
        self.average.mean_or(self.alpha())
    }

    fn state(&self) -> MixerState {
        MixerState::of(self.name(), &self.average).with_per_task(&self.loss)
    }

    fn restore(&mut self, state: &MixerState) -> Result<(), MixError> {
        let average = state.average(self.name(), self.loss.len())?;
        let loss = state.per_task(self.loss.len())?;
        state.no_log_weights()?;
        state.no_scale()?;
        (self.average, self.loss) = (average, loss);
        self.weights = self.weigh()?;
        Ok(())
    }
}
