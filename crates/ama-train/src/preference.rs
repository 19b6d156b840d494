//! Preference training over many tasks: specialists (one task, plain loss) and generalists (any mixer).
//!
//! A specialist is the same objective with one task and a mixer that does not move, so stage 1 and stage 2 cannot
//! drift apart. Stage 2 reads cached numbers only: no reference and no specialist model is ever run here.

use std::ops::Range;

use ama_data::{BatchSampler, Draw, ExampleRef, Order, SamplerState, TokenStore};
use ama_loss::{PairLogps, PairLoss, PreferenceLoss};
use ama_mix::{
    DrawRule, ExcessMode, GradientClip, MixError, Mixer, MixerState, PairExcess, TaskExcess, pair_excess,
};
use ama_model::SequenceLogp;
use ama_specialist_cache::PairScore;
use serde::{Deserialize, Serialize};

use crate::{Budget, Objective, StepRecord, TrainError};

/// One task's training pairs and everything that is known about them before training.
#[derive(Debug, Clone)]
pub struct TrainTask {
    /// The task's name, unique among the tasks.
    pub name: String,
    /// Its tokenised pairs.
    pub pairs: TokenStore,
    /// Log-probabilities under the frozen reference, one row per pair, in the store's order.
    pub reference: Vec<PairScore>,
    /// The specialist's loss on every pair in nats, in the store's order.
    pub specialist_loss_nats: Option<Vec<f64>>,
}

/// How pairs are drawn and compared; the mixer decides the rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PreferenceOptions {
    /// The preference loss; the same one the specialists were trained and cached with.
    pub loss: PreferenceLoss,
    /// Pairs of one optimiser step, `B`.
    pub batch_pairs: usize,
    /// How a pair's loss is compared with its specialist's. [`ExcessMode::Raw`] trains on the plain loss.
    pub excess: ExcessMode,
    /// Whether clipped pairs lose their gradient or only their influence on the weights.
    pub gradient_clip: GradientClip,
    /// Order of every task's epochs.
    pub order: Order,
    /// Seed of all draws.
    pub seed: u64,
    /// Stage name in the metrics.
    pub stage: Stage,
}

/// Which stage of the pipeline a run belongs to; it only names the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// One task, plain loss.
    Specialist,
    /// All tasks, mixed.
    Generalist,
}

/// The preference objective; see the module's documentation.
pub struct Preference {
    tasks: Vec<TrainTask>,
    options: PreferenceOptions,
    mixer: Box<dyn Mixer + Send>,
    sampler: BatchSampler,
    batch: Vec<Item>,
    /// Factor of each pair's excess in the step's loss.
    weights: Vec<f64>,
    /// The distribution over tasks that this step used.
    alpha: Vec<f64>,
    /// What the mixer was told about this step.
    seen: Vec<TaskExcess>,
}

impl std::fmt::Debug for Preference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preference")
            .field("mixer", &self.mixer.name())
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

/// One drawn pair, filled in as the step goes on.
struct Item {
    draw: Draw,
    logps: (f64, f64),
    loss: Option<(PairLoss, PairExcess)>,
}

/// What a checkpoint keeps of a [`Preference`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PreferenceState {
    sampler: SamplerState,
    mixer: MixerState,
}

/// Steps that `budget` comes to when every task is drawn equally often: the horizon `T` for a mixer's defaults.
#[must_use]
pub fn horizon_steps(tasks: &[TrainTask], batch_pairs: usize, budget: Budget) -> u64 {
    let mean_of = |t: &TrainTask| t.pairs.total_tokens() as f64 / t.pairs.len().max(1) as f64;
    let mean = tasks.iter().map(mean_of).sum::<f64>() / tasks.len().max(1) as f64;
    budget.expected_steps(mean * batch_pairs as f64)
}

impl Preference {
    /// Checks that every pair has its cached numbers.
    ///
    /// # Errors
    /// [`TrainError::EmptyTask`], [`TrainError::Coverage`], [`TrainError::NoSpecialist`] or a bad setting.
    pub fn new(
        tasks: Vec<TrainTask>,
        mixer: Box<dyn Mixer + Send>,
        options: PreferenceOptions,
    ) -> Result<Self, TrainError> {
        let adaptive = options.excess != ExcessMode::Raw;
        for task in &tasks {
            let want = task.pairs.len();
            let coverage = |what, got| TrainError::Coverage { task: task.name.clone(), what, want, got };
            if want == 0 {
                return Err(TrainError::EmptyTask { task: task.name.clone() });
            }
            if task.reference.len() != want {
                return Err(coverage("the reference score table", task.reference.len()));
            }
            match &task.specialist_loss_nats {
                Some(losses) if losses.len() != want => {
                    return Err(coverage("the specialist's loss table", losses.len()));
                }
                None if adaptive => {
                    return Err(TrainError::NoSpecialist { method: mixer.name(), task: task.name.clone() });
                }
                _ => {}
            }
        }
        let plan_tasks = mixer.plan().sampling.len();
        if tasks.is_empty() || plan_tasks != tasks.len() {
            let value = format!("{} tasks for a mixer of {plan_tasks}", tasks.len());
            return Err(TrainError::Setting {
                name: "tasks",
                value,
                want: "one weight per task, at least one task",
            });
        }
        let stratified = mixer.plan().draw == DrawRule::Stratified;
        if options.batch_pairs == 0 || (stratified && options.batch_pairs < tasks.len()) {
            return Err(TrainError::Setting {
                name: "batch_pairs",
                value: options.batch_pairs.to_string(),
                want: "at least one pair, and one per task for a stratified method",
            });
        }
        let sizes: Vec<usize> = tasks.iter().map(|t| t.pairs.len()).collect();
        let sampler = BatchSampler::new(&sizes, options.seed, options.order)?;
        let (batch, weights, alpha, seen) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { tasks, options, mixer, sampler, batch, weights, alpha, seen })
    }

    /// The mixer in its present state.
    #[must_use]
    pub fn mixer(&self) -> &dyn Mixer {
        &*self.mixer
    }

    fn weigh(&mut self) -> Result<(), TrainError> {
        let tasks: Vec<usize> = self.batch.iter().map(|item| item.draw.task).collect();
        self.weights = self.mixer.plan().pair_weights(&tasks)?;
        Ok(())
    }

    /// Mean of `value` over the drawn pairs of each task.
    fn task_means(&self, value: impl Fn(&PairLoss, &PairExcess) -> f64) -> Result<Vec<TaskExcess>, MixError> {
        let known = self
            .batch
            .iter()
            .filter_map(|item| item.loss.as_ref().map(|(l, e)| (item.draw.task, value(l, e))));
        let (tasks, values): (Vec<_>, Vec<_>) = known.unzip();
        TaskExcess::collect(self.tasks.len(), &tasks, &values)
    }

    /// Mean over the batch of something every evaluated pair has.
    fn mean(&self, value: impl Fn(&Item, &PairLoss, &PairExcess) -> f64) -> f64 {
        let known = self.batch.iter().filter_map(|item| item.loss.as_ref().map(|(l, e)| value(item, l, e)));
        known.sum::<f64>() / self.batch.len().max(1) as f64
    }

    fn by_task<T>(&self, values: impl Iterator<Item = T>) -> std::collections::BTreeMap<String, T> {
        self.tasks.iter().map(|t| t.name.clone()).zip(values).collect()
    }
}

/// A task's mean, or `None` when it was not drawn.
fn drawn_mean(task: &TaskExcess) -> Option<f64> {
    (task.drawn > 0).then_some(task.mean_excess_nats)
}

impl Objective for Preference {
    type State = PreferenceState;

    fn draw(&mut self) -> Result<usize, TrainError> {
        let plan = self.mixer.plan();
        let draws = match plan.draw {
            DrawRule::Stratified => self.sampler.stratified(self.options.batch_pairs),
            DrawRule::Sampled => self.sampler.sampled(plan.sampling, self.options.batch_pairs)?,
            DrawRule::Union => self.sampler.pooled(self.options.batch_pairs),
        };
        self.batch = draws.into_iter().map(|draw| Item { draw, logps: (0.0, 0.0), loss: None }).collect();
        if !self.mixer.loss_weight_depends_on_batch() {
            self.alpha = self.mixer.alpha().to_vec();
            self.weigh()?;
        }
        Ok(self.batch.len())
    }

    fn example(&self, item: usize) -> ExampleRef<'_> {
        let Draw { task, index } = self.batch[item].draw;
        self.tasks[task].pairs.example(index)
    }

    fn describe(&self, item: usize) -> String {
        let Draw { task, index } = self.batch[item].draw;
        format!("{}: {}", self.tasks[task].name, self.tasks[task].pairs.place(index))
    }

    fn settles_before_gradient(&self) -> bool {
        self.mixer.loss_weight_depends_on_batch()
    }

    fn losses(&mut self, items: Range<usize>, logps: &[SequenceLogp]) -> Result<(), usize> {
        for (index, pair) in items.zip(logps.chunks_exact(2)) {
            let item = &mut self.batch[index];
            let task = &self.tasks[item.draw.task];
            let reference = &task.reference[item.draw.index];
            let loss = self.options.loss.evaluate(&PairLogps {
                chosen: pair[0].sum_nats,
                rejected: pair[1].sum_nats,
                ref_chosen: reference.chosen_logp,
                ref_rejected: reference.rejected_logp,
                chosen_tokens: pair[0].tokens,
                rejected_tokens: pair[1].tokens,
            });
            if !loss.loss_nats.is_finite() {
                return Err(index);
            }
            let specialist = task.specialist_loss_nats.as_ref().map_or(0.0, |l| l[item.draw.index]);
            let excess =
                pair_excess(self.options.excess, self.options.gradient_clip, loss.loss_nats, specialist);
            item.logps = (pair[0].sum_nats, pair[1].sum_nats);
            item.loss = Some((loss, excess));
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), TrainError> {
        self.seen = self.task_means(|_, excess| excess.value_nats)?;
        self.mixer.update(&self.seen)?;
        if self.mixer.loss_weight_depends_on_batch() {
            self.alpha = self.mixer.alpha().to_vec();
            self.weigh()?;
        }
        Ok(())
    }

    fn gradient(&self, items: Range<usize>) -> Vec<f64> {
        let pairs = self.batch[items.clone()].iter().zip(&self.weights[items]);
        pairs
            .flat_map(|(item, &weight)| match &item.loss {
                Some((loss, excess)) if excess.active => [weight * loss.d_chosen, weight * loss.d_rejected],
                _ => [0.0, 0.0],
            })
            .collect()
    }

    fn record(&self, record: &mut StepRecord) {
        let stage = match self.options.stage {
            Stage::Specialist => "specialist",
            Stage::Generalist => "generalist",
        };
        stage.clone_into(&mut record.stage);
        self.mixer.name().clone_into(&mut record.method);
        record.loss = self
            .batch
            .iter()
            .zip(&self.weights)
            .filter_map(|(item, weight)| item.loss.as_ref().map(|(_, excess)| weight * excess.value_nats))
            .sum();
        record.alpha = self.by_task(self.alpha.iter().copied());
        record.drawn = self.by_task(self.seen.iter().map(|t| t.drawn as u64));
        record.excess = self.by_task(self.seen.iter().map(drawn_mean));
        record.task_loss = self
            .task_means(|loss, _| loss.loss_nats)
            .map(|means| self.by_task(means.iter().map(drawn_mean)))
            .unwrap_or_default();
        record.excess_scale = self.mixer.excess_scale();
        record.active = Some(self.mean(|_, _, excess| f64::from(u8::from(excess.active))));
        record.accuracy = Some(self.mean(|_, loss, _| f64::from(u8::from(loss.margin > 0.0))));
        record.margin = Some(self.mean(|_, loss, _| loss.margin));
        record.chosen_reward = Some(self.mean(|_, loss, _| loss.chosen_reward));
        record.rejected_reward = Some(self.mean(|_, loss, _| loss.rejected_reward));
        record.chosen_logp = Some(self.mean(|item, _, _| item.logps.0));
        record.rejected_logp = Some(self.mean(|item, _, _| item.logps.1));
    }

    fn tokens_per_step(&self) -> f64 {
        let mean_of = |t: &TrainTask| t.pairs.total_tokens() as f64 / t.pairs.len() as f64;
        let sampling = self.mixer.plan().sampling.iter();
        let mean: f64 = self.tasks.iter().zip(sampling).map(|(t, p)| p * mean_of(t)).sum();
        mean * self.options.batch_pairs as f64
    }

    fn state(&self) -> PreferenceState {
        PreferenceState { sampler: self.sampler.state(), mixer: self.mixer.state() }
    }

    fn restore(&mut self, state: &PreferenceState) -> Result<(), TrainError> {
        let sizes: Vec<usize> = self.tasks.iter().map(|t| t.pairs.len()).collect();
        self.sampler = BatchSampler::restore(&sizes, &state.sampler)?;
        self.mixer.restore(&state.mixer)?;
        Ok(())
    }
}
