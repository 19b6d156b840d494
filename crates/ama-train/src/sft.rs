//! Supervised fine-tuning: mean negative log-likelihood of the completion tokens.

use std::ops::Range;

use ama_data::{EpochSampler, EpochState, ExampleRef, Order, TokenStore};
use ama_model::SequenceLogp;

use crate::{Objective, StepRecord, TrainError};

/// SFT objective: `-sum log pi(y|x) / (completion tokens of the batch)`, as TRL's `SFTTrainer` with
/// completion-only loss.
#[derive(Debug)]
pub struct Sft {
    store: TokenStore,
    sampler: EpochSampler,
    batch: usize,
    items: Vec<usize>,
    completion_tokens: u64,
    nll: f64,
}

impl Sft {
    /// Batches of `batch` examples (clamped to the data) in shuffled or file order.
    ///
    /// # Errors
    /// [`TrainError::EmptyTask`] without an example, [`TrainError::Setting`] for an empty batch.
    pub fn new(store: TokenStore, batch: usize, seed: u64, order: Order) -> Result<Self, TrainError> {
        if store.is_empty() {
            return Err(TrainError::EmptyTask { task: "sft".into() });
        }
        if store.completions_per_example() != 1 {
            return Err(TrainError::Setting {
                name: "data",
                value: store.path().display().to_string(),
                want: "rows of `prompt` and `completion`; these are preference pairs",
            });
        }
        if batch == 0 {
            return Err(TrainError::Setting { name: "batch", value: "0".into(), want: "at least 1" });
        }
        let sampler = EpochSampler::new(store.len(), seed, 0, order)?;
        Ok(Self { store, sampler, batch, items: Vec::new(), completion_tokens: 0, nll: 0.0 })
    }
}

impl Objective for Sft {
    type State = EpochState;

    fn draw(&mut self) -> Result<usize, TrainError> {
        self.items.clear();
        self.items.extend((0..self.batch).map(|_| self.sampler.next()));
        let lengths = self.items.iter().map(|&i| self.store.example(i).chosen().len() as u64);
        self.completion_tokens = lengths.sum();
        self.nll = 0.0;
        Ok(self.items.len())
    }

    fn example(&self, item: usize) -> ExampleRef<'_> {
        self.store.example(self.items[item])
    }

    fn describe(&self, item: usize) -> String {
        format!("sft: {}", self.store.place(self.items[item]))
    }

    fn settles_before_gradient(&self) -> bool {
        false
    }

    fn losses(&mut self, items: Range<usize>, logps: &[SequenceLogp]) -> Result<(), usize> {
        for (item, logp) in items.zip(logps) {
            if !logp.sum_nats.is_finite() {
                return Err(item);
            }
            self.nll -= logp.sum_nats;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), TrainError> {
        Ok(())
    }

    fn gradient(&self, items: Range<usize>) -> Vec<f64> {
        vec![-1.0 / self.completion_tokens as f64; items.len()]
    }

    fn record(&self, record: &mut StepRecord) {
        "base".clone_into(&mut record.stage);
        "sft".clone_into(&mut record.method);
        record.loss = self.nll / self.completion_tokens as f64;
    }

    fn tokens_per_step(&self) -> f64 {
        self.store.total_tokens() as f64 / self.store.len() as f64 * self.batch as f64
    }

    fn state(&self) -> EpochState {
        self.sampler.state()
    }

    fn restore(&mut self, state: &EpochState) -> Result<(), TrainError> {
        Ok(self.sampler.restore(*state)?)
    }
}
