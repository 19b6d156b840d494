//! DoReMi: exponentiated gradient with smoothing, for weights that another run then keeps.

use crate::mixer::check_update;
use crate::{
    DrawRule, ExcessScale, LogWeights, MixError, Mixer, MixerState, Plan, TaskExcess, average::AlphaAverage,
    error::check_not_negative, scale::ScaleTracker,
};

/// The first phase of DoReMi (Xie et al. 2023, arXiv:2305.10429, algorithm 1): a run whose result is
/// [`averaged_alpha`](Mixer::averaged_alpha). The second phase trains on [`Fixed`](crate::Fixed) with those
/// proportions.
///
/// A batch holds equally many pairs of every task; `e_i` is the mean excess of task `i`'s pairs, clipped at 0. Then
///
/// ```text
/// alpha'_i = alpha_i exp(eta e_i / M), normalised
/// alpha_i <- (1 - c) alpha'_i + c/k                  the next step starts from this
/// loss     = sum_i alpha_i e_i                       with the new alpha
/// result   = (1/T) sum_t alpha_t
/// ```
///
/// It is [`AmaR`](crate::AmaR) with smoothing, which keeps every task within reach.
///
/// # Compared with
/// The update and the order of its parts are those of `update_domain_weights` in the authors' re-implementation
/// (sangmichaelxie/doremi, `doremi/trainer.py`), of nanotron (`examples/doremi/doremi/loss.py`) and of levanter's DoReMi;
/// the first and the last take the same mean and start from equal weights.
///
/// On purpose otherwise: the sources' excess is one over a single reference model, clipped for each token, here it is
/// what the loop passes, with [`ExcessMode::Clipped`](crate::ExcessMode::Clipped) that over the task's specialist, clipped
/// for each pair. A clipped pair gives no gradient, as in nanotron; in the authors' code and in levanter only the weights
/// see the clipping ([`GradientClip::WeightsOnly`](crate::GradientClip::WeightsOnly)). A task without a pair in the batch
/// gains nothing, as in nanotron and levanter; the authors' code takes its last excess again.
#[derive(Debug, Clone)]
pub struct DoReMi {
    c: f64,
    eta: f64,
    uniform: Vec<f64>,
    weights: LogWeights,
    scale: ScaleTracker,
    average: AlphaAverage,
}

impl DoReMi {
    /// Step size over an excess in nats ([`ExcessScale::Fixed`]`(1.0)`): that of the paper, says the authors' README.
    pub const DEFAULT_ETA: f64 = 1.0;
    /// Smoothing by default in levanter; 1e-4 in the authors' re-implementation.
    pub const DEFAULT_C: f64 = 1e-3;

    /// A mixer over `tasks` tasks that starts from equal weights. `c` is the smoothing, `eta` the step over the scale,
    /// dimensionless.
    ///
    /// # Errors
    /// [`MixError::NoTasks`]; [`MixError::BadSetting`] on a `c` outside `[0, 1]`, an `eta` that is negative or not
    /// finite, or a bad `scale`.
    pub fn new(tasks: usize, c: f64, eta: f64, scale: ExcessScale) -> Result<Self, MixError> {
        if !(0.0..=1.0).contains(&c) {
            return Err(MixError::BadSetting { name: "c", value: c, want: "a value in [0, 1]" });
        }
        check_not_negative("eta", eta)?;
        let weights = LogWeights::uniform(tasks)?;
        let uniform = weights.weights().to_vec();
        let (scale, average) = (ScaleTracker::new(scale)?, AlphaAverage::new(tasks));
        Ok(Self { c, eta, uniform, weights, scale, average })
    }
}

impl Mixer for DoReMi {
    fn name(&self) -> &'static str {
        "doremi"
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
        self.weights.smooth(self.c);
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
