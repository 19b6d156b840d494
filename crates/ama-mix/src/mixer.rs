//! The trait that every mixer implements.

use crate::{MixError, MixerState, Plan, error::check_tasks};

/// What one step saw of a task.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TaskExcess {
    /// Pairs of the task in the batch.
    pub drawn: usize,
    /// Mean excess of those pairs, nats (divided by `drawn`). Not read if `drawn` is 0.
    pub mean_excess_nats: f64,
}

impl TaskExcess {
    /// Counts and means from the pairs of a batch: pair `p` is of task `tasks[p]` and has excess
    /// `excess_nats[p]`. Sums run in the order of the batch, so equal batches give equal bits.
    ///
    /// # Errors
    /// [`MixError::UnknownTask`]; [`MixError::PairCount`] if the two slices differ in length.
    pub fn collect(task_count: usize, tasks: &[usize], excess_nats: &[f64]) -> Result<Vec<Self>, MixError> {
        if tasks.len() != excess_nats.len() {
            let (want, got) = (tasks.len(), excess_nats.len());
            return Err(MixError::PairCount { want, got });
        }
        let mut out = vec![Self::default(); task_count];
        for (pair, (&task, excess)) in tasks.iter().zip(excess_nats).enumerate() {
            let seen = out.get_mut(task).ok_or(MixError::UnknownTask { pair, task, tasks: task_count })?;
            seen.drawn += 1;
            seen.mean_excess_nats += excess;
        }
        for seen in out.iter_mut().filter(|seen| seen.drawn > 0) {
            seen.mean_excess_nats /= seen.drawn as f64;
        }
        Ok(out)
    }
}

/// The adversary of the minimax game over `k` tasks: it says how the next batch is drawn and weighed.
///
/// A step of the training loop, the same for every mixer:
///
/// 1. read [`plan`](Self::plan) and draw the batch by [`Plan::draw`] and [`Plan::sampling`];
/// 2. forward pass: the excess of every pair ([`pair_excess`](crate::pair_excess));
/// 3. call [`update`](Self::update) with the mean excess of each task;
/// 4. weigh the pairs with [`Plan::pair_weights`], and step the model.
///
/// In 4, the plan is the one read **after** `update` if
/// [`loss_weight_depends_on_batch`](Self::loss_weight_depends_on_batch); else the weights of 1 and 4 are the
/// same and may be used before the forward pass has ended (to stream micro-batches, say).
pub trait Mixer {
    /// Stable name, as in configurations: `ama-s`, `pooled`, ...
    fn name(&self) -> &'static str;

    /// Plan of the next step. Pure: the caller owns the random numbers.
    fn plan(&self) -> Plan<'_>;

    /// Learns from one step; `tasks[i]` is what it saw of task `i`. Any finite excess is welcome, also a
    /// negative one (unclipped).
    ///
    /// # Errors
    /// [`MixError::TaskCount`], [`MixError::EmptyBatch`], [`MixError::BadExcess`] on NaN or infinity,
    /// [`MixError::ImpossibleDraw`]. On error the mixer is unchanged.
    fn update(&mut self, tasks: &[TaskExcess]) -> Result<(), MixError>;

    /// The distribution over tasks to report, the `alpha` of the paper: the loss weights of a mixer that
    /// reweights, the sampling probabilities of one that resamples.
    ///
    /// The `alpha` that a step *used* is this one after `update` if
    /// [`loss_weight_depends_on_batch`](Self::loss_weight_depends_on_batch), before it otherwise.
    fn alpha(&self) -> &[f64];

    /// Whether [`Plan::loss_weight`] of a step is final only after its own [`update`](Self::update)
    /// (AMA-R and Group DRO step with the new weights).
    fn loss_weight_depends_on_batch(&self) -> bool;

    /// The excess scale `M` in nats that the last update divided by; `None` for mixers without one and
    /// before the first observation.
    fn excess_scale(&self) -> Option<f64>;

    /// Mean over the steps so far of the `alpha` that each of them used; [`alpha`](Self::alpha) before the
    /// first.
    fn averaged_alpha(&self) -> Vec<f64>;

    /// What a checkpoint has to keep.
    fn state(&self) -> MixerState;

    /// Goes back to `state`, bit for bit. The mixer must have been built with the same settings.
    ///
    /// # Errors
    /// [`MixError::StateVersion`], [`MixError::StateMixer`], [`MixError::TaskCount`],
    /// [`MixError::StateField`]. On error the mixer is unchanged.
    fn restore(&mut self, state: &MixerState) -> Result<(), MixError>;
}

/// Checks an update's input and returns the number of pairs drawn.
pub(crate) fn check_update(task_count: usize, tasks: &[TaskExcess]) -> Result<usize, MixError> {
    check_tasks("update", task_count, tasks.len())?;
    let mut pairs = 0;
    for (task, seen) in tasks.iter().enumerate().filter(|(_, seen)| seen.drawn > 0) {
        if !seen.mean_excess_nats.is_finite() {
            return Err(MixError::BadExcess { task, value: seen.mean_excess_nats });
        }
        pairs += seen.drawn;
    }
    if pairs == 0 { Err(MixError::EmptyBatch) } else { Ok(pairs) }
}

/// Refuses pairs of a task that `sampling` never draws: they cannot be importance weighted.
pub(crate) fn check_possible(sampling: &[f64], tasks: &[TaskExcess]) -> Result<(), MixError> {
    match tasks.iter().zip(sampling).position(|(seen, &share)| seen.drawn > 0 && share == 0.0) {
        Some(task) => Err(MixError::ImpossibleDraw { task, drawn: tasks[task].drawn }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collect_counts_and_averages() {
        let got = TaskExcess::collect(3, &[2, 0, 2, 2], &[1.0, 0.5, 2.0, 6.0]).unwrap();
        assert_eq!(got.iter().map(|seen| seen.drawn).collect::<Vec<_>>(), [1, 0, 3]);
        assert_eq!(got.iter().map(|seen| seen.mean_excess_nats).collect::<Vec<_>>(), [0.5, 0.0, 3.0]);
        let wrong = TaskExcess::collect(2, &[0, 2], &[1.0, 1.0]);
        assert_eq!(wrong, Err(MixError::UnknownTask { pair: 1, task: 2, tasks: 2 }));
        assert_eq!(TaskExcess::collect(2, &[0], &[]), Err(MixError::PairCount { want: 1, got: 0 }));
    }
}
