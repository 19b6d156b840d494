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
}

impl MixerState {
    /// State of a mixer that learns, or (without `learner`) of one that does not.
    pub(crate) fn of(
        mixer: &'static str,
        learner: Option<(&LogWeights, &ScaleTracker)>,
        average: &AlphaAverage,
    ) -> Self {
        Self {
            version: STATE_VERSION,
            mixer: mixer.to_owned(),
            log_weights: learner.map(|(weights, _)| weights.logs().to_vec()).unwrap_or_default(),
            running_scale: learner.and_then(|(_, scale)| scale.seen()),
            steps: average.steps(),
            alpha_sum: average.sum().to_vec(),
        }
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
}
