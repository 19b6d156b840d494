//! What the step engine needs to know about the thing it minimises.

use std::ops::Range;

use ama_data::ExampleRef;
use ama_model::SequenceLogp;
use serde::{Serialize, de::DeserializeOwned};

use crate::{StepRecord, TrainError};

/// A loss over sequence log-probabilities, with its data and its own resumable state.
///
/// One step of the engine calls `draw`, then `losses` (once, or once per micro-batch), `settle` and `gradient`.
/// When [`Objective::settles_before_gradient`] is false, `gradient` of a micro-batch follows its `losses` at once
/// and `settle` comes last, so a batch that is cut into micro-batches costs no second forward pass.
pub trait Objective {
    /// What has to be saved so that the next `draw` continues bit for bit.
    type State: Serialize + DeserializeOwned;

    /// Draws the next batch; returns its number of examples.
    ///
    /// # Errors
    /// When the draw is impossible (a mixer's weights do not fit the tasks).
    fn draw(&mut self) -> Result<usize, TrainError>;

    /// Example `item` of the drawn batch.
    fn example(&self, item: usize) -> ExampleRef<'_>;

    /// Task, file and row of example `item`, for error messages.
    fn describe(&self, item: usize) -> String;

    /// Whether gradients are known only after the whole batch has been seen.
    fn settles_before_gradient(&self) -> bool;

    /// Takes the log-probabilities of the examples in `items` (chosen, rejected, chosen, ... for pairs).
    ///
    /// # Errors
    /// `Err(item)` of the first example whose loss is not finite.
    fn losses(&mut self, items: Range<usize>, logps: &[SequenceLogp]) -> Result<(), usize>;

    /// Learns from the whole batch (mixers move here).
    ///
    /// # Errors
    /// When the mixer refuses the step's excess.
    fn settle(&mut self) -> Result<(), TrainError>;

    /// Derivative of the step's loss by every sequence log-probability of `items`.
    fn gradient(&self, items: Range<usize>) -> Vec<f64>;

    /// Fills the objective's part of the step's record.
    fn record(&self, record: &mut StepRecord);

    /// Mean tokens of a step, to turn a token budget into an expected number of steps.
    fn tokens_per_step(&self) -> f64;

    /// The state before the next draw.
    fn state(&self) -> Self::State;

    /// Puts back a saved state.
    ///
    /// # Errors
    /// When the state does not belong to these data and this mixer.
    fn restore(&mut self, state: &Self::State) -> Result<(), TrainError>;
}
