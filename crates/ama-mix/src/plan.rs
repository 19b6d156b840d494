//! How the next batch is drawn and weighed.

use crate::MixError;

/// How the caller draws the next batch of `B` pairs from `k` tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrawRule {
    /// `B/k` pairs from every task.
    Stratified,
    /// Every pair draws its task from [`Plan::sampling`], then the next pair of that task's shuffled epoch.
    Sampled,
    /// The next `B` pairs of the shuffled union of all tasks.
    Union,
}

/// How the next batch is drawn and weighed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan<'a> {
    /// How the batch is drawn.
    pub draw: DrawRule,
    /// Probability (or expected share) of task `i` among the pairs of the batch; sums to 1.
    pub sampling: &'a [f64],
    /// Factor on task `i`'s loss, dimensionless.
    pub loss_weight: &'a [f64],
}

impl Plan<'_> {
    /// Factor of each pair of a drawn batch on its own excess or loss, so that the sum over the batch of
    /// factor times loss is the loss of the step:
    ///
    /// - [`DrawRule::Stratified`]: `sum_i loss_weight[i] * (mean over the batch's pairs of task i)`, so a
    ///   factor is `loss_weight[i] / n_i` with `n_i` the pairs of task `i` in the batch. A task that has no
    ///   pair in the batch is simply absent; the others are not scaled up for it;
    /// - [`DrawRule::Sampled`], [`DrawRule::Union`]: `(1/B) * sum over pairs of loss_weight[task]`, with `B`
    ///   the pairs of the batch.
    ///
    /// `tasks[p]` is the task of pair `p`. With gradient accumulation pass the whole batch of the optimiser
    /// step, not a micro-batch: the divisors count its pairs.
    ///
    /// # Errors
    /// [`MixError::EmptyBatch`], [`MixError::UnknownTask`].
    pub fn pair_weights(&self, tasks: &[usize]) -> Result<Vec<f64>, MixError> {
        let k = self.loss_weight.len();
        if tasks.is_empty() {
            return Err(MixError::EmptyBatch);
        }
        if let Some((pair, &task)) = tasks.iter().enumerate().find(|&(_, &task)| task >= k) {
            return Err(MixError::UnknownTask { pair, task, tasks: k });
        }
        Ok(match self.draw {
            DrawRule::Stratified => {
                let mut drawn = vec![0usize; k];
                for &task in tasks {
                    drawn[task] += 1;
                }
                tasks.iter().map(|&task| self.loss_weight[task] / drawn[task] as f64).collect()
            }
            DrawRule::Sampled | DrawRule::Union => {
                let pairs = tasks.len() as f64;
                tasks.iter().map(|&task| self.loss_weight[task] / pairs).collect()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stratified_weighs_means_of_tasks() {
        let plan = Plan {
            draw: DrawRule::Stratified,
            sampling: &[0.25; 4],
            loss_weight: &[0.5, 0.25, 0.125, 0.125],
        };
        // Task 0 twice, task 1 four times, task 3 once, task 2 absent.
        let got = plan.pair_weights(&[1, 0, 1, 1, 0, 1, 3]).unwrap();
        assert_eq!(got, [0.0625, 0.25, 0.0625, 0.0625, 0.25, 0.0625, 0.125]);
    }

    #[test]
    fn sampled_and_union_divide_by_the_batch() {
        for draw in [DrawRule::Sampled, DrawRule::Union] {
            let plan = Plan { draw, sampling: &[0.5, 0.5], loss_weight: &[1.0, 2.0] };
            assert_eq!(plan.pair_weights(&[0, 1, 0, 0]).unwrap(), [0.25, 0.5, 0.25, 0.25]);
        }
    }

    #[test]
    fn bad_batches_are_refused() {
        let plan = Plan { draw: DrawRule::Union, sampling: &[0.5, 0.5], loss_weight: &[1.0, 1.0] };
        assert_eq!(plan.pair_weights(&[]), Err(MixError::EmptyBatch));
        assert_eq!(plan.pair_weights(&[0, 2]), Err(MixError::UnknownTask { pair: 1, task: 2, tasks: 2 }));
    }
}
