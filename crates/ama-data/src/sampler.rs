//! What comes next: shuffled epochs per task and the batches drawn from them, resumable to the same bits.
//!
//! Every order is a function of seed, stream and epoch alone, and a saved state is a handful of counters. Memory does not
//! grow with the number of examples: orders are held up to 65,536 examples and computed index by index beyond.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::order::{EpochOrder, HELD_EXAMPLES, generator};

/// The order of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Another random permutation in every epoch.
    #[default]
    Shuffled,
    /// The order of the file, in every epoch.
    File,
}

/// One example of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Draw {
    /// Index of the task.
    pub task: usize,
    /// Index of the example within the task's store.
    pub index: usize,
}

/// Where an epoch stands, to be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochState {
    /// Whole epochs behind.
    pub epoch: u64,
    /// Examples drawn in this epoch.
    pub position: u64,
}

/// An endless walk over `0..len`: every index once per epoch.
#[derive(Debug, Clone)]
pub struct EpochSampler {
    seed: u64,
    stream: u64,
    order: Order,
    len: u32,
    epoch: u64,
    position: u32,
    /// Whether a shuffled order is held in memory.
    held: bool,
    /// The order of this epoch.
    places: EpochOrder,
}

impl EpochSampler {
    /// A walk over `0..len` from its beginning. Equal seeds with different streams give independent orders.
    ///
    /// # Errors
    /// [`DataError::EmptyTask`] for `len = 0` (naming `stream` as the task), [`DataError::TooManyExamples`] for
    /// more than `u32::MAX`.
    pub fn new(len: usize, seed: u64, stream: u64, order: Order) -> Result<Self, DataError> {
        Self::with_memory(len, seed, stream, order, len <= HELD_EXAMPLES)
    }

    fn with_memory(len: usize, seed: u64, stream: u64, order: Order, held: bool) -> Result<Self, DataError> {
        if len == 0 {
            return Err(DataError::EmptyTask { task: usize::try_from(stream).unwrap_or(usize::MAX) });
        }
        let len = u32::try_from(len).map_err(|_| DataError::TooManyExamples { len })?;
        let places = EpochOrder::File;
        let mut sampler = Self { seed, stream, order, len, epoch: 0, position: 0, held, places };
        sampler.shuffle();
        Ok(sampler)
    }

    /// The next index. The walk never ends, so this is no `Iterator`.
    #[allow(
        clippy::should_implement_trait,
        reason = "an Iterator would have to return Option for a walk without end"
    )]
    pub fn next(&mut self) -> usize {
        if self.position == self.len {
            self.epoch += 1;
            self.position = 0;
            self.shuffle();
        }
        let index = self.places.at(self.position);
        self.position += 1;
        index as usize
    }

    /// Number of indices.
    #[allow(clippy::len_without_is_empty, reason = "a sampler is never empty")]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Where the walk stands.
    pub fn state(&self) -> EpochState {
        EpochState { epoch: self.epoch, position: self.position.into() }
    }

    /// Goes to where another walk over the same indices, with the same seed, stream and order, stood.
    ///
    /// # Errors
    /// [`DataError::SamplerState`] if the state lies beyond the end of an epoch; the walk is unchanged then.
    pub fn restore(&mut self, state: EpochState) -> Result<(), DataError> {
        let position = u32::try_from(state.position).ok().filter(|&position| position <= self.len);
        self.position = position.ok_or_else(|| DataError::SamplerState {
            what: format!("position {} in an epoch of {} examples", state.position, self.len),
        })?;
        self.epoch = state.epoch;
        self.shuffle();
        Ok(())
    }

    /// Sets the order of the epoch that begins.
    fn shuffle(&mut self) {
        let key = [self.seed, self.stream, self.epoch];
        match (self.order, self.held) {
            (Order::File, _) => {}
            (Order::Shuffled, true) => self.places.shuffle(self.len, key),
            (Order::Shuffled, false) => self.places = EpochOrder::keyed(self.len, key),
        }
    }
}

/// Everything that a [`BatchSampler`] needs to go on, to be saved with a checkpoint. Its size depends on the
/// number of tasks only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplerState {
    /// Version of this struct: [`SamplerState::VERSION`].
    pub version: u32,
    /// Seed of the run.
    pub seed: u64,
    /// Order of the epochs.
    pub order: Order,
    /// Examples per task.
    pub sizes: Vec<u64>,
    /// Where each task's epoch stands.
    pub tasks: Vec<EpochState>,
    /// Where the epoch over the union stands.
    pub pooled: EpochState,
    /// Remainders handed out by stratified batches, which rotate over the tasks.
    pub rotation: u64,
    /// Random draws of a task.
    pub task_draws: u64,
}

impl SamplerState {
    /// The version that this crate writes.
    pub const VERSION: u32 = 2;
}

/// Draws batches over several tasks.
///
/// The three ways to draw share the tasks' epochs ([`stratified`](Self::stratified) and
/// [`sampled`](Self::sampled)) or walk the union's own ([`pooled`](Self::pooled)).
#[derive(Debug, Clone)]
pub struct BatchSampler {
    seed: u64,
    order: Order,
    tasks: Vec<EpochSampler>,
    /// First index of each task in the union.
    starts: Vec<usize>,
    pooled: EpochSampler,
    rotation: u64,
    task_draws: u64,
    task_rng: ChaCha8Rng,
}

/// Stream of the union's epochs; tasks are numbered from 0.
const POOLED_STREAM: u64 = u64::MAX;

impl BatchSampler {
    /// A sampler over tasks with `sizes[i]` examples each.
    ///
    /// # Errors
    /// [`DataError::EmptyTask`] if a task, or the list of tasks, is empty; [`DataError::TooManyExamples`] if the
    /// union has more than `u32::MAX` examples.
    pub fn new(sizes: &[usize], seed: u64, order: Order) -> Result<Self, DataError> {
        if sizes.is_empty() {
            return Err(DataError::EmptyTask { task: 0 });
        }
        let mut union = 0_usize;
        let mut starts = Vec::with_capacity(sizes.len());
        for &size in sizes {
            starts.push(union);
            union = union.saturating_add(size);
        }
        // One decision for all: a thousand small tasks are a large data set.
        let epochs =
            |len, stream| EpochSampler::with_memory(len, seed, stream, order, union <= HELD_EXAMPLES);
        let tasks = (0..).zip(sizes).map(|(task, &len)| epochs(len, task));
        let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
        let pooled = epochs(union, POOLED_STREAM)?;
        let task_rng = generator("ama-data 2025 task draws v1", &[seed]);
        Ok(Self { seed, order, tasks, starts, pooled, rotation: 0, task_draws: 0, task_rng })
    }

    /// Number of tasks.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// `n / k` examples of each of the `k` tasks, in task order. The remaining `n % k` go one each to tasks that
    /// rotate from call to call, so that over any `k` calls of one size every task gets the same.
    pub fn stratified(&mut self, n: usize) -> Vec<Draw> {
        let k = self.tasks.len();
        let (share, remainder) = (n / k, n % k);
        let first = (self.rotation % k as u64) as usize;
        self.rotation = self.rotation.wrapping_add(remainder as u64) % k as u64;
        let mut draws = Vec::with_capacity(n);
        for (task, sampler) in self.tasks.iter_mut().enumerate() {
            let extra = usize::from((task + k - first) % k < remainder);
            draws.extend((0..share + extra).map(|_| Draw { task, index: sampler.next() }));
        }
        draws
    }

    /// `n` examples: each draws its task from `probabilities`, independently, and is then the next of that task's
    /// epoch. A task with probability 0 is never drawn.
    ///
    /// # Errors
    /// [`DataError::BadProbabilities`] unless there is one finite probability >= 0 per task and they sum to 1
    /// within 1e-6; nothing is drawn then.
    pub fn sampled(&mut self, probabilities: &[f64], n: usize) -> Result<Vec<Draw>, DataError> {
        let sum: f64 = probabilities.iter().sum();
        let legal = probabilities.iter().all(|p| p.is_finite() && *p >= 0.0) && (sum - 1.0).abs() <= 1e-6;
        if !legal || probabilities.len() != self.tasks.len() {
            let (probabilities, tasks) = (probabilities.to_vec(), self.tasks.len());
            return Err(DataError::BadProbabilities { probabilities, tasks });
        }
        Ok((0..n)
            .map(|_| {
                let task = self.draw_task(probabilities, sum);
                Draw { task, index: self.tasks[task].next() }
            })
            .collect())
    }

    fn draw_task(&mut self, probabilities: &[f64], sum: f64) -> usize {
        self.task_draws += 1;
        // 53 random bits: uniform in [0, 1).
        let uniform = (self.task_rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let mut left = uniform * sum;
        let mut last = 0;
        for (task, &p) in probabilities.iter().enumerate().filter(|&(_, &p)| p > 0.0) {
            last = task;
            if left < p {
                break;
            }
            left -= p;
        }
        last
    }

    /// The next `n` examples of the union of all tasks, as if it were one shuffled data set. In
    /// [`Order::File`] the tasks follow each other.
    pub fn pooled(&mut self, n: usize) -> Vec<Draw> {
        (0..n)
            .map(|_| {
                let at = self.pooled.next();
                let task = self.starts.partition_point(|&start| start <= at) - 1;
                Draw { task, index: at - self.starts[task] }
            })
            .collect()
    }

    /// Where the sampler stands.
    pub fn state(&self) -> SamplerState {
        SamplerState {
            version: SamplerState::VERSION,
            seed: self.seed,
            order: self.order,
            sizes: self.tasks.iter().map(|task| task.len() as u64).collect(),
            tasks: self.tasks.iter().map(EpochSampler::state).collect(),
            pooled: self.pooled.state(),
            rotation: self.rotation,
            task_draws: self.task_draws,
        }
    }

    /// The sampler that goes on where `state` was saved, over tasks of the same sizes.
    ///
    /// # Errors
    /// [`DataError::SamplerState`] if version or sizes differ or a position lies beyond its epoch, and the errors
    /// of [`new`](Self::new).
    pub fn restore(sizes: &[usize], state: &SamplerState) -> Result<Self, DataError> {
        let refuse = |what| Err(DataError::SamplerState { what });
        if state.version != SamplerState::VERSION {
            let want = SamplerState::VERSION;
            return refuse(format!("the state has version {}; want {want}", state.version));
        }
        if !sizes.iter().map(|&size| size as u64).eq(state.sizes.iter().copied()) {
            return refuse(format!(
                "the state is of tasks with {:?} examples; these have {sizes:?}",
                state.sizes
            ));
        }
        if state.tasks.len() != sizes.len() {
            return refuse(format!("the state has {} epochs for {} tasks", state.tasks.len(), sizes.len()));
        }
        let mut sampler = Self::new(sizes, state.seed, state.order)?;
        for (task, &epoch) in sampler.tasks.iter_mut().zip(&state.tasks) {
            task.restore(epoch)?;
        }
        sampler.pooled.restore(state.pooled)?;
        sampler.rotation = state.rotation % sizes.len() as u64;
        sampler.task_draws = state.task_draws;
        // One draw takes one 64-bit number: two 32-bit words of the stream.
        sampler.task_rng.set_word_pos(u128::from(state.task_draws) * 2);
        Ok(sampler)
    }
}
