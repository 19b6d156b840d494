//! What a checkpoint keeps of a mixer.

use crate::error::check_tasks;
use crate::{LogWeights, MixError, average::AlphaAverage, scale::ScaleTracker};
use serde::{Deserialize, Serialize};

/// Version of [`MixerState`] that this build writes and reads.
pub const STATE_VERSION: u32 = 1;

/// Everything of a mixer that changes from step to step; settings such as `eta` are the configuration's.
///
/// A format that checkpoints write. Floats must survive the trip exactly (JSON: `serde_json` with its
/// feature `float_roundtrip`); then a restored mixer goes on with the same bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixerState {
    /// [`STATE_VERSION`] of the writer.
    pub version: u32,
    /// Name of the mixer that wrote it.
    pub mixer: String,
    /// Log-weights of the tasks, the largest 0; empty for a mixer that does not learn.
    pub log_weights: Vec<f64>,
    /// The running excess scale in nats, before its floor.
    pub running_scale: Option<f64>,
    /// Updates taken.
    pub steps: u64,
    /// Sum of alpha over the updates, a value a task.
    pub alpha_sum: Vec<f64>,
    /// What else the mixer remembers of each task: its smoothed reward (ODM) or the loss it last had (TERM, FAMO),
    /// nats; empty (and not written) for the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per_task: Vec<f64>,
}

impl MixerState {
    /// What all mixers keep; the others are added with `with_*`.
    pub(crate) fn of(mixer: &'static str, average: &AlphaAverage) -> Self {
        Self {
            version: STATE_VERSION,
            mixer: mixer.to_owned(),
            log_weights: Vec::new(),
            running_scale: None,
            steps: average.steps(),
            alpha_sum: average.sum().to_vec(),
            per_task: Vec::new(),
        }
    }

    pub(crate) fn with_weights(self, weights: &LogWeights) -> Self {
        Self { log_weights: weights.logs().to_vec(), ..self }
    }

    pub(crate) fn with_scale(self, scale: &ScaleTracker) -> Self {
        Self { running_scale: scale.seen(), ..self }
    }

    pub(crate) fn with_per_task(self, per_task: &[f64]) -> Self {
        Self { per_task: per_task.to_vec(), ..self }
    }

    /// Checks what all mixers share and returns the average.
    pub(crate) fn average(&self, mixer: &'static str, tasks: usize) -> Result<AlphaAverage, MixError> {
        if self.version != STATE_VERSION {
            return Err(MixError::StateVersion { want: STATE_VERSION, got: self.version });
        }
        if self.mixer != mixer {
            return Err(MixError::StateMixer { want: mixer, got: self.mixer.clone() });
        }
        check_tasks("field `alpha_sum` of the state", tasks, self.alpha_sum.len())?;
        AlphaAverage::restored(self.steps, &self.alpha_sum)
    }

    /// The log-weights, checked.
    pub(crate) fn log_weights(&self, tasks: usize) -> Result<LogWeights, MixError> {
        check_tasks("field `log_weights` of the state", tasks, self.log_weights.len())?;
        LogWeights::from_logs(self.log_weights.clone())
            .map_err(|_| MixError::StateField { field: "log_weights" })
    }

    /// The values of [`MixerState::per_task`], checked.
    pub(crate) fn per_task(&self, tasks: usize) -> Result<Vec<f64>, MixError> {
        check_tasks("field `per_task` of the state", tasks, self.per_task.len())?;
        Self::sound("per_task", self.per_task.iter().all(|value| value.is_finite()))?;
        Ok(self.per_task.clone())
    }

    /// Refuses log-weights, of a mixer that has none.
    pub(crate) fn no_log_weights(&self) -> Result<(), MixError> {
        Self::sound("log_weights", self.log_weights.is_empty())
    }

    /// Refuses a running scale, of a mixer that has none.
    pub(crate) fn no_scale(&self) -> Result<(), MixError> {
        Self::sound("running_scale", self.running_scale.is_none())
    }

    /// Refuses values for each task, of a mixer that has none.
    pub(crate) fn no_per_task(&self) -> Result<(), MixError> {
        Self::sound("per_task", self.per_task.is_empty())
    }

    fn sound(field: &'static str, good: bool) -> Result<(), MixError> {
        if good { Ok(()) } else { Err(MixError::StateField { field }) }
    }
}
