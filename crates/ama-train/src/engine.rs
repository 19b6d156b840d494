//! The step loop that every kind of training shares.
//!
//! draw -> pack -> forward -> losses -> mixer -> gradient -> backward -> clip -> AdamW -> record -> checkpoint

use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use ama_data::{ExampleRef, Packed, micro_batches};
use ama_model::access::values_mut;
use ama_model::profile::{Op, Pass, Work, timed};
use ama_model::{Llama, PackedView, ParamGrads, SequenceLogp};

use crate::checkpoint::{self, Checkpoint, Checkpoints};
use crate::optim::{AdamW, AdamWOptions, clip_factor};
use crate::schedule::{Budget, Schedule};
use crate::{Control, Objective, StepRecord, Summary, TrainError};

/// Settings of the step loop; ranges are checked when the run begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainOptions {
    /// Length of the run.
    pub budget: Budget,
    /// Learning rate along the run.
    pub schedule: Schedule,
    /// AdamW's constants.
    pub optimiser: AdamWOptions,
    /// Global gradient norm above which gradients are scaled down; `None` never clips.
    pub clip_norm: Option<f64>,
    /// Most packed tokens in one forward and backward pass; a larger batch is cut into
    /// micro-batches whose gradients are accumulated.
    pub micro_batch_tokens: usize,
    /// Whether the backward pass runs each layer again instead of keeping its activations
    /// ([`Llama::set_checkpoint_activations`]): the same bits, less memory, about a quarter more time.
    pub checkpoint_activations: bool,
}

impl TrainOptions {
    fn validate(&self) -> Result<(), TrainError> {
        self.schedule.validate()?;
        self.optimiser.validate()?;
        if self.budget.amount() == 0 {
            return Err(TrainError::Setting { name: "steps/tokens", value: "0".into(), want: "at least 1" });
        }
        if let Some(max) = self.clip_norm
            && !(max.is_finite() && max > 0.0)
        {
            return Err(TrainError::Setting {
                name: "clip",
                value: max.to_string(),
                want: "a finite value > 0",
            });
        }
        if self.micro_batch_tokens == 0 {
            return Err(TrainError::Setting {
                name: "micro_batch_tokens",
                value: "0".into(),
                want: "at least 1",
            });
        }
        Ok(())
    }
}

/// Trains `model` in place until the budget is spent.
///
/// A checkpoint that matches `checkpoints.identity` is continued from when `checkpoints.resume` is set, and the
/// result has the same bits as a run that was never cut off.
///
/// # Errors
/// [`TrainError::Interrupted`] when the control asked to stop, [`TrainError::NonFinite`] when a loss or the gradient
/// is NaN or infinite (both after writing a checkpoint of the last good state), [`TrainError::Diverged`] when weights are
/// (they are never written), or what data, model, mixer and disk refuse.
pub fn train<O: Objective + Send>(
    model: &mut Llama,
    objective: &mut O,
    options: &TrainOptions,
    checkpoints: &Checkpoints,
    control: &mut Control<'_>,
) -> Result<Summary, TrainError> {
    options.validate()?;
    model.set_checkpoint_activations(options.checkpoint_activations);
    let started = Instant::now();
    let mut run = Run {
        optimiser: AdamW::new(options.optimiser, model.params()),
        grads: ParamGrads::zeros(model.params()),
        packed: Packed::default(),
        summary: Summary::default(),
        wall_before_s: 0.0,
        started,
    };
    checkpoint::remove_unfinished(checkpoints)?;
    if let Some(found) = checkpoint::latest(checkpoints, model.params())? {
        run.resume(model, objective, found)?;
    }
    let expected_steps = options.budget.expected_steps(objective.tokens_per_step());
    while !options.budget.spent(run.summary.steps, run.summary.tokens) {
        if control.stopped() {
            let path = run.save(model, objective.state(), checkpoints, control)?;
            return Err(TrainError::Interrupted { step: run.summary.steps, checkpoint: path });
        }
        // The state before the draw: what a checkpoint of a failed step must hold.
        let before = objective.state();
        let record = match run.step(model, objective, options, expected_steps) {
            Ok(record) => record,
            Err(StepError::NonFinite { what, pairs }) => {
                let step = run.summary.steps;
                // Weights that the steps before have ruined are no state to go on from.
                let checkpoint = match run.save(model, before, checkpoints, control) {
                    Err(TrainError::Diverged { .. }) => None,
                    saved => saved?,
                };
                return Err(TrainError::NonFinite { step, what, pairs, checkpoint });
            }
            Err(StepError::Other(error)) => return Err(error),
        };
        run.summary.push(&record);
        let (steps, tokens) = (run.summary.steps, run.summary.tokens);
        let done = options.budget.position(steps, tokens);
        control.observer.step(&record, done.min(options.budget.amount()), options.budget.amount());
        if checkpoints.due(steps) && !options.budget.spent(steps, tokens) {
            run.save(model, objective.state(), checkpoints, control)?;
        }
    }
    // No loss was computed from what the last step made.
    if let Some(parameter) = model.params().first_non_finite() {
        let (step, tensor) = (run.summary.steps, parameter.name.clone());
        return Err(TrainError::Diverged { step, tensor });
    }
    let wall_s = started.elapsed().as_secs_f64();
    run.summary.finish(wall_s);
    run.summary.wall_s = run.wall_before_s + wall_s;
    Ok(run.summary)
}

/// Why a step did not happen; weights and moments are untouched in either case.
enum StepError {
    NonFinite { what: &'static str, pairs: String },
    Other(TrainError),
}

impl From<TrainError> for StepError {
    fn from(error: TrainError) -> Self {
        Self::Other(error)
    }
}

impl From<ama_model::ModelError> for StepError {
    fn from(error: ama_model::ModelError) -> Self {
        Self::Other(error.into())
    }
}

/// What changes along a run, apart from the model and the objective.
struct Run {
    optimiser: AdamW,
    grads: ParamGrads,
    packed: Packed,
    summary: Summary,
    /// Seconds spent before the last interruption.
    wall_before_s: f64,
    started: Instant,
}

impl Run {
    fn resume<O: Objective>(
        &mut self,
        model: &mut Llama,
        objective: &mut O,
        found: Checkpoint<O::State>,
    ) -> Result<(), TrainError> {
        for (param, values) in model.params_mut().iter_mut().zip(found.params) {
            values_mut(&mut param.tensor).copy_from_slice(&values);
        }
        self.optimiser.restore(found.summary.steps, found.first, found.second);
        objective.restore(&found.objective)?;
        self.wall_before_s = found.summary.wall_s;
        self.summary = found.summary;
        Ok(())
    }

    fn save<S: serde::Serialize>(
        &self,
        model: &Llama,
        objective: S,
        checkpoints: &Checkpoints,
        control: &mut Control<'_>,
    ) -> Result<Option<PathBuf>, TrainError> {
        if let Some(parameter) = model.params().first_non_finite() {
            let (step, tensor) = (self.summary.steps, parameter.name.clone());
            return Err(TrainError::Diverged { step, tensor });
        }
        let mut summary = self.summary.clone();
        summary.wall_s = self.wall_before_s + self.started.elapsed().as_secs_f64();
        let path = checkpoint::save(checkpoints, model.params(), &self.optimiser, &summary, &objective)?;
        if let Some(path) = &path {
            control.observer.checkpoint(summary.steps, path);
        }
        Ok(path)
    }

    fn step<O: Objective + Send>(
        &mut self,
        model: &mut Llama,
        objective: &mut O,
        options: &TrainOptions,
        expected_steps: u64,
    ) -> Result<StepRecord, StepError> {
        let clock = Instant::now();
        let drawn = objective.draw()?;
        let examples: Vec<_> = (0..drawn).map(|i| objective.example(i)).collect();
        let tokens: u64 = examples.iter().map(|e| e.tokens() as u64).sum();
        let lengths: Vec<usize> = examples.iter().map(ExampleRef::packed_tokens).collect();
        drop(examples);
        let parts = micro_batches(&lengths, options.micro_batch_tokens);
        let two_passes = parts.len() > 1 && objective.settles_before_gradient();

        let elements = model.params().total();
        timed(Op::GradNorm, Pass::Backward, Work::elements(elements, 0), || self.grads.clear());
        if two_passes {
            for part in &parts {
                self.pack(objective, part.clone());
                let logps = model.logps(&view(&self.packed))?;
                losses(objective, part.clone(), &logps)?;
            }
            objective.settle()?;
        }
        for part in &parts {
            self.pack(objective, part.clone());
            model.accumulate_gradients(&view(&self.packed), &mut self.grads, |logps| {
                if !two_passes {
                    losses(objective, part.clone(), logps)?;
                    if objective.settles_before_gradient() {
                        objective.settle()?;
                    }
                }
                Ok::<_, StepError>(objective.gradient(part.clone()))
            })?;
        }
        if !objective.settles_before_gradient() {
            objective.settle()?;
        }

        let norm = Work::elements(elements, 2);
        let grad_norm = timed(Op::GradNorm, Pass::Backward, norm, || self.grads.global_norm());
        if !grad_norm.is_finite() {
            // A small data set is drawn more than once a step.
            let mut pairs: Vec<String> = (0..drawn).map(|i| objective.describe(i)).collect();
            pairs.sort();
            pairs.dedup();
            let pairs = pairs.join("; ");
            return Err(StepError::NonFinite { what: "gradient", pairs });
        }
        let (steps, total) = (self.summary.steps, self.summary.tokens);
        let (before, after) =
            (options.budget.position(steps, total), options.budget.position(steps + 1, total + tokens));
        let lr = options.schedule.rate(options.budget, expected_steps, before, after);
        let scale = clip_factor(grad_norm, options.clip_norm);
        timed(Op::Optimiser, Pass::Backward, Work::elements(7 * elements, 2), || {
            self.optimiser.step(model.params_mut(), &self.grads, lr, scale);
        });

        let step_s = clock.elapsed().as_secs_f64();
        let mut record = StepRecord {
            step: steps + 1,
            lr,
            grad_norm,
            tokens,
            tokens_total: total + tokens,
            step_s,
            tokens_per_s: tokens as f64 / step_s.max(1e-9),
            ..StepRecord::default()
        };
        objective.record(&mut record);
        Ok(record)
    }

    fn pack<O: Objective>(&mut self, objective: &O, items: Range<usize>) {
        self.packed.clear();
        for item in items {
            self.packed.push(objective.example(item));
        }
    }
}

fn losses<O: Objective>(
    objective: &mut O,
    items: Range<usize>,
    logps: &[SequenceLogp],
) -> Result<(), StepError> {
    objective
        .losses(items, logps)
        .map_err(|item| StepError::NonFinite { what: "loss", pairs: objective.describe(item) })
}

/// The same packed batch as slices, for the model.
pub(crate) fn view(packed: &Packed) -> PackedView<'_> {
    PackedView {
        ids: &packed.ids,
        segment_offsets: &packed.segment_offsets,
        segment_prefix: &packed.segment_prefix,
        rows: &packed.rows,
        targets: &packed.targets,
        sequence_offsets: &packed.sequence_offsets,
    }
}
