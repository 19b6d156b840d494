//! Mixers that do not learn: constant mixtures.

use crate::mixer::check_update;
use crate::{DrawRule, MixError, Mixer, MixerState, Plan, TaskExcess, average::AlphaAverage, proportions};

/// What the constant mixers share: a plan, and the count of steps.
#[derive(Debug, Clone)]
struct Constant {
    draw: DrawRule,
    sampling: Vec<f64>,
    loss_weight: Vec<f64>,
    average: AlphaAverage,
}

impl Constant {
    fn new(draw: DrawRule, sampling: Vec<f64>, loss_weight: f64) -> Self {
        let tasks = sampling.len();
        Self { draw, sampling, loss_weight: vec![loss_weight; tasks], average: AlphaAverage::new(tasks) }
    }

    fn plan(&self) -> Plan<'_> {
        Plan { draw: self.draw, sampling: &self.sampling, loss_weight: &self.loss_weight }
    }

    fn update(&mut self, tasks: &[TaskExcess]) -> Result<(), MixError> {
        check_update(self.sampling.len(), tasks)?;
        self.average.push(&self.sampling);
        Ok(())
    }

    fn restore(&mut self, name: &'static str, state: &MixerState) -> Result<(), MixError> {
        let average = state.average(name, self.sampling.len())?;
        state.no_log_weights()?;
        state.no_scale()?;
        state.no_per_task()?;
        self.average = average;
        Ok(())
    }
}

macro_rules! constant_mixer {
    ($mixer:ident, $name:expr) => {
        impl Mixer for $mixer {
            fn name(&self) -> &'static str {
                $name(self)
            }

            fn plan(&self) -> Plan<'_> {
                self.constant.plan()
            }

            fn update(&mut self, tasks: &[TaskExcess]) -> Result<(), MixError> {
                self.constant.update(tasks)
            }

            fn alpha(&self) -> &[f64] {
                &self.constant.sampling
            }

            fn loss_weight_depends_on_batch(&self) -> bool {
                false
            }

            fn excess_scale(&self) -> Option<f64> {
                None
            }

            fn averaged_alpha(&self) -> Vec<f64> {
                self.constant.average.mean_or(self.alpha())
            }

            fn state(&self) -> MixerState {
                MixerState::of(self.name(), &self.constant.average)
            }

            fn restore(&mut self, state: &MixerState) -> Result<(), MixError> {
                let name = self.name();
                self.constant.restore(name, state)
            }
        }
    };
}

/// Uniform over the union of all tasks' pairs (the paper's Uniform DPO): a task counts by its size.
#[derive(Debug, Clone)]
pub struct Pooled {
    constant: Constant,
}

impl Pooled {
    /// `sizes[i]` is the number of pairs of task `i`.
    ///
    /// # Errors
    /// [`MixError::NoTasks`], [`MixError::EmptyTask`].
    pub fn new(sizes: &[usize]) -> Result<Self, MixError> {
        let sampling = proportions(&sizes_as_weights(sizes, 1.0)?)?;
        Ok(Self { constant: Constant::new(DrawRule::Union, sampling, 1.0) })
    }
}

constant_mixer!(Pooled, |_: &Pooled| "pooled");

/// Equal weight for every task: stratified batches, and the mean over tasks of each task's mean loss.
#[derive(Debug, Clone)]
pub struct TaskNormalised {
    constant: Constant,
}

impl TaskNormalised {
    /// A mixer over `tasks` tasks.
    ///
    /// # Errors
    /// [`MixError::NoTasks`].
    pub fn new(tasks: usize) -> Result<Self, MixError> {
        if tasks == 0 {
            return Err(MixError::NoTasks);
        }
        let share = 1.0 / tasks as f64;
        Ok(Self { constant: Constant::new(DrawRule::Stratified, vec![share; tasks], share) })
    }
}

constant_mixer!(TaskNormalised, |_: &TaskNormalised| "task-normalised");

/// Fixed sampling proportions: every pair draws its task from them, and the loss is the mean over the batch.
#[derive(Debug, Clone)]
pub struct Fixed {
    name: &'static str,
    constant: Constant,
}

impl Fixed {
    /// Proportions `weights[i] / sum`. A task may have weight zero; it is then never drawn.
    ///
    /// # Errors
    /// [`MixError::NoTasks`]; [`MixError::BadSetting`] on a weight that is negative or not finite, or if all are
    /// zero.
    pub fn new(weights: &[f64]) -> Result<Self, MixError> {
        let sampling = proportions(weights)?;
        Ok(Self { name: "fixed", constant: Constant::new(DrawRule::Sampled, sampling, 1.0) })
    }
}

constant_mixer!(Fixed, |mixer: &Fixed| mixer.name);

/// Temperature sampling, proportions `size_i^tau / sum_j size_j^tau`: `tau` 1 draws by size, 0 every task
/// alike (exponential smoothing as in multilingual training, Devlin 2019; Conneau et al. 2020,
/// arXiv:1911.02116, eq. 1). A [`Fixed`] mixer by the name of `temperature`.
///
/// # Errors
/// [`MixError::NoTasks`], [`MixError::EmptyTask`]; [`MixError::BadSetting`] on a `tau` that is not finite.
pub fn temperature(sizes: &[usize], tau: f64) -> Result<Fixed, MixError> {
    if !tau.is_finite() {
        return Err(MixError::BadSetting { name: "tau", value: tau, want: "a finite value" });
    }
    let fixed = Fixed::new(&sizes_as_weights(sizes, tau)?)?;
    Ok(Fixed { name: "temperature", ..fixed })
}

/// `(size_i / max)^tau` or, for negative `tau`, `(size_i / min)^tau`: in `[0, 1]` with at least one 1.
fn sizes_as_weights(sizes: &[usize], tau: f64) -> Result<Vec<f64>, MixError> {
    if let Some(task) = sizes.iter().position(|&size| size == 0) {
        return Err(MixError::EmptyTask { task });
    }
    let (min, max) = (sizes.iter().min(), sizes.iter().max());
    let unit = *if tau < 0.0 { min } else { max }.ok_or(MixError::NoTasks)? as f64;
    Ok(sizes.iter().map(|&size| (size as f64 / unit).powf(tau)).collect())
}
