//! FAMO: fast adaptive multitask optimisation.

use crate::mixer::check_update;
use crate::{
    DrawRule, LogWeights, MixError, Mixer, MixerState, Plan, TaskExcess, average::AlphaAverage,
    error::check_not_negative,
};

/// FAMO takes the logarithm of no loss below this many nats.
const LOSS_FLOOR_NATS: f64 = 1e-8;

/// Fast Adaptive Multitask Optimization (Liu et al. 2023, arXiv:2306.03792, algorithm 1): all tasks' losses shall fall
/// at the same *relative* rate. A task whose log-loss fell less than the others' gets more weight.
///
/// A batch holds equally many pairs of every task; `l_i` is the mean loss of task `i`'s pairs, positive and raw
/// ([`ExcessMode::Raw`](crate::ExcessMode::Raw)). With logits `x = 0` at first, `z = softmax(x)`, step `t` is
///
/// ```text
/// d_i      = ln l_i(t-1) - ln l_i(t)                  how much the log-loss fell (0 in the first step)
/// x_i     <- x_i - beta (z_i (d_i - sum_j z_j d_j) + gamma x_i)
/// alpha_i  = (z_i / l_i(t)) / sum_j (z_j / l_j(t))     with the new z
/// loss     = sum_i alpha_i l_i                         with alpha held constant
/// ```
///
/// the gradient of `sum_i z_i ln l_i`, scaled so that the weights sum to 1. Losses below 1e-8 nats count as 1e-8; a task
/// without a pair in the batch keeps the loss it last had (1 nat at first) and its fall is 0.
///
/// # Compared with
/// The authors' code (Cranial-XIX/FAMO, `famo.py` and `methods/weight_methods.py`) and LibMTL's: `d`, its product with the
/// softmax's Jacobian, the decay, `z_i / l_i` and its normalisation are the same, with minimal losses of 0 as there by
/// default.
///
/// On purpose otherwise: the logits take plain steps, where their code has Adam (the paper's first algorithm is plain,
/// say reviewers of TorchJD's port, its second has Adam); the fall is measured between the batches of two steps, where
/// they run the batch again after the step, which saves that pass and adds the noise of two batches; the norm of the
/// gradient is left to the loop, where they clip it at 1; the floor is a maximum, where they add 1e-8.
#[derive(Debug, Clone)]
pub struct Famo {
    beta: f64,
    gamma: f64,
    uniform: Vec<f64>,
    /// The logits `x`, up to a constant (which neither `z` nor the decay of differences sees).
    logits: LogWeights,
    /// The loss each task last had, nats; 0 before the first.
    loss: Vec<f64>,
    weights: LogWeights,
    average: AlphaAverage,
}

impl Famo {
    /// `beta`, the learning rate of the logits, in the authors' code (of their Adam).
    pub const DEFAULT_BETA: f64 = 0.025;
    /// `gamma`, the decay of the logits, in the authors' `famo.py` and by default in their experiments; 0.001 in those on
    /// quantum chemistry and in LibMTL.
    pub const DEFAULT_GAMMA: f64 = 0.01;

    /// A mixer over `tasks` tasks. `beta` is the learning rate of the logits, `gamma` their decay, both dimensionless.
    ///
    /// # Errors
    /// [`MixError::NoTasks`]; [`MixError::BadSetting`] on a value that is negative or not finite.
    pub fn new(tasks: usize, beta: f64, gamma: f64) -> Result<Self, MixError> {
        check_not_negative("beta", beta)?;
        check_not_negative("gamma", gamma)?;
        let logits = LogWeights::uniform(tasks)?;
        let uniform = logits.weights().to_vec();
        let (loss, weights, average) = (vec![0.0; tasks], logits.clone(), AlphaAverage::new(tasks));
        Ok(Self { beta, gamma, uniform, logits, loss, weights, average })
    }

    /// `ln l`, 0 for a task that was never seen.
    fn log_loss(loss: f64) -> f64 {
        if loss == 0.0 { 0.0 } else { loss.ln() }
    }

    /// `z_i / l_i`, normalised.
    fn weigh(&self) -> LogWeights {
        let mut weights = self.logits.clone();
        weights.exponentiate(|task| -Self::log_loss(self.loss[task]));
        weights
    }
}

impl Mixer for Famo {
    fn name(&self) -> &'static str {
        "famo"
    }

    fn plan(&self) -> Plan<'_> {
        Plan { draw: DrawRule::Stratified, sampling: &self.uniform, loss_weight: self.weights.weights() }
    }

    fn update(&mut self, tasks: &[TaskExcess]) -> Result<(), MixError> {
        check_update(self.loss.len(), tasks)?;
        let mut fall = vec![0.0; tasks.len()];
        for ((loss, fall), seen) in self.loss.iter_mut().zip(&mut fall).zip(tasks) {
            if seen.drawn > 0 {
                let now = seen.mean_excess_nats.max(LOSS_FLOOR_NATS);
                *fall = if *loss == 0.0 { 0.0 } else { loss.ln() - now.ln() };
                *loss = now;
            }
        }
        let (z, x) = (self.logits.weights().to_vec(), self.logits.logs().to_vec());
        let mean: f64 = z.iter().zip(&fall).map(|(z, fall)| z * fall).sum();
        self.logits.exponentiate(|task| -self.beta * (z[task] * (fall[task] - mean) + self.gamma * x[task]));
        self.weights = self.weigh();
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
        MixerState::of(self.name(), &self.average).with_weights(&self.logits).with_per_task(&self.loss)
    }

    fn restore(&mut self, state: &MixerState) -> Result<(), MixError> {
        let average = state.average(self.name(), self.loss.len())?;
        let logits = state.log_weights(self.loss.len())?;
        let loss = state.per_task(self.loss.len())?;
        if loss.iter().any(|&loss| loss < 0.0) {
            return Err(MixError::StateField { field: "per_task" });
        }
        state.no_scale()?;
        (self.average, self.logits, self.loss) = (average, logits, loss);
        self.weights = self.weigh();
        Ok(())
    }
}
