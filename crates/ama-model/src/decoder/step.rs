//! A forward pass, and a forward and a backward pass, of a whole batch: in lanes where that pays, else with shared ops.

use std::sync::{Arc, mpsc};

use dfdx::prelude::*;
use rayon::prelude::*;

use super::lanes::{self, Lane, Threads};
use super::{Llama, SequenceLogp, check_upstream, in_pool, per_row, sums};
use crate::ops::head::seed;
use crate::ops::tape::Act;
use crate::profile::{Op, Pass, Work, timed};
use crate::workspace::Workspace;
use crate::{ModelError, PackedView, ParamGrads};

/// Most bytes of gradient buffers that lanes may have besides the caller's. Beyond it (a model of more than 64 million
/// parameters on two threads) the ops themselves are shared out instead.
const LANE_GRADS_BYTES: usize = 256 << 20;

/// Elements that one task adds up.
const REDUCE_CHUNK: usize = 16 * 1024;

/// What a pass needs besides the model: threads, buffers and gradients, kept from one pass to the next.
#[derive(Debug, Default)]
pub(super) struct Crew {
    threads: Threads,
    stations: Vec<Station>,
}

/// One lane's own memory.
#[derive(Debug, Default)]
struct Station {
    home: Arc<Workspace>,
    /// Zero between passes. The first lane has none: it adds to the caller's.
    grads: Option<ParamGrads>,
}

impl<'a> Todo<'a> {
    /// The lane's forward pass: its index, its sequences' log-probabilities, and what its backward pass needs.
    fn forward(
        self,
        model: &Llama,
        head_bytes: usize,
    ) -> Result<(usize, Vec<SequenceLogp>, Open<'a>), ModelError> {
        let Self { index, lane, home, grads } = self;
        let mut tape = OwnedTape::<f32, Cpu>::default();
        let logps = model.forward(&mut tape, &lane.view(), &home, head_bytes)?;
        let sums = sums(&lane.view(), logps.values());
        Ok((index, sums, Open { lane, tape, logps, grads }))
    }
}

/// A lane between its forward and its backward pass.
struct Open<'a> {
    lane: &'a Lane,
    tape: OwnedTape<f32, Cpu>,
    logps: Act,
    grads: &'a mut ParamGrads,
}

impl Open<'_> {
    /// The lane's backward pass, from the answer for the whole batch.
    fn backward(self, model: &Llama, answer: &[f64]) -> Result<(), ModelError> {
        let Self { lane, tape, logps, grads } = self;
        let answer: Vec<f64> = lane.sequences.iter().map(|q| answer[*q]).collect();
        backward(model, &lane.view(), &answer, tape, &logps, grads)
    }
}

/// A lane that is yet to run.
struct Todo<'a> {
    index: usize,
    lane: &'a Lane,
    home: Arc<Workspace>,
    grads: &'a mut ParamGrads,
}

impl Crew {
    /// Log-probability of every sequence; no tape.
    pub(super) fn logps(
        &mut self,
        model: &Llama,
        batch: &PackedView<'_>,
    ) -> Result<Vec<SequenceLogp>, ModelError> {
        let Some(lanes) = lanes::cut(batch, model.lanes) else {
            let home = self.home(0);
            let logps = in_pool(|| {
                let logps = model.forward(&mut NoneTape, batch, &home, model.head_bytes)?;
                Ok::<_, ModelError>(sums(batch, logps.values()))
            });
            return logps;
        };
        let head_bytes = model.head_bytes / lanes.len();
        let homes: Vec<_> = (0..lanes.len()).map(|i| self.home(i)).collect();
        let run = |index: usize| {
            let view = lanes[index].view();
            let logps = model.forward(&mut NoneTape, &view, &homes[index], head_bytes)?;
            Ok::<_, ModelError>(sums(&view, logps.values()))
        };
        let workers = self.workers(lanes.len());
        let mut found = vec![None; batch.sequences()];
        if workers < 2 {
            for (index, lane) in lanes.iter().enumerate() {
                place(&mut found, lane, run(index)?);
            }
        } else {
            let (results, arrived) = mpsc::channel();
            let tasks = (0..workers).map(|worker| {
                let (results, run, count) = (results.clone(), &run, lanes.len());
                let task = move || {
                    for index in (worker..count).step_by(workers) {
                        // Nobody listens any more only when another lane has failed.
                        let _ = results.send((index, run(index)));
                    }
                };
                Box::new(task) as Box<dyn FnOnce() + Send + '_>
            });
            let tasks = tasks.collect();
            drop(results);
            self.threads.run(tasks, || {
                for (index, logps) in arrived {
                    place(&mut found, &lanes[index], logps?);
                }
                Ok::<_, ModelError>(())
            })?;
        }
        Ok(whole(found))
    }

    /// Forward, the caller's decision, backward; see [`Llama::accumulate_gradients`].
    pub(super) fn gradients<E: From<ModelError> + Send>(
        &mut self,
        model: &Llama,
        batch: &PackedView<'_>,
        grads: &mut ParamGrads,
        upstream: impl FnOnce(&[SequenceLogp]) -> Result<Vec<f64>, E> + Send,
    ) -> Result<Vec<SequenceLogp>, E> {
        let outcome = self.gradients_of_batch(model, batch, grads, upstream);
        if outcome.is_err() {
            // What a lane had added before another one failed must not reach the next step.
            self.stations.iter_mut().for_each(|station| station.grads = None);
        }
        outcome
    }

    fn gradients_of_batch<E: From<ModelError> + Send>(
        &mut self,
        model: &Llama,
        batch: &PackedView<'_>,
        grads: &mut ParamGrads,
        upstream: impl FnOnce(&[SequenceLogp]) -> Result<Vec<f64>, E> + Send,
    ) -> Result<Vec<SequenceLogp>, E> {
        let per_lane = size_of::<f32>() * model.params.total();
        let count = model.lanes.min(1 + LANE_GRADS_BYTES / per_lane.max(1));
        let Some(lanes) = lanes::cut(batch, count) else {
            let home = self.home(0);
            return in_pool(|| {
                let mut tape = OwnedTape::<f32, Cpu>::default();
                let logps = model.forward(&mut tape, batch, &home, model.head_bytes)?;
                let sums = sums(batch, logps.values());
                let answer = upstream(&sums)?;
                check_upstream(&answer, sums.len())?;
                backward(model, batch, &answer, tape, &logps, grads)?;
                Ok(sums)
            });
        };
        let workers = self.workers(lanes.len());
        for station in &mut self.stations[1..lanes.len()] {
            station.grads.get_or_insert_with(|| ParamGrads::zeros(&model.params));
        }
        let head_bytes = model.head_bytes / lanes.len();
        let (threads, stations) = (&self.threads, &mut self.stations[..lanes.len()]);
        let homes: Vec<_> = stations.iter().map(|station| Arc::clone(&station.home)).collect();
        let buffers =
            std::iter::once(&mut *grads).chain(stations.iter_mut().filter_map(|s| s.grads.as_mut()));
        let mut todo: Vec<Vec<Todo<'_>>> = (0..workers).map(|_| Vec::new()).collect();
        for (index, ((lane, home), grads)) in lanes.iter().zip(homes).zip(buffers).enumerate() {
            todo[index % workers].push(Todo { index, lane, home, grads });
        }
        let mut found = vec![None; batch.sequences()];
        let decide = |sums: &[SequenceLogp]| -> Result<Vec<f64>, E> {
            let answer = upstream(sums)?;
            check_upstream(&answer, sums.len())?;
            Ok(answer)
        };
        let (sums, answer) = if workers < 2 {
            let mut open = Vec::with_capacity(lanes.len());
            for todo in todo.into_iter().flatten() {
                let (index, sums, forward) = todo.forward(model, head_bytes)?;
                place(&mut found, &lanes[index], sums);
                open.push(forward);
            }
            let sums = whole(found);
            let answer = decide(&sums)?;
            open.into_iter().try_for_each(|open| open.backward(model, &answer))?;
            (sums, answer)
        } else {
            let (results, arrived) = mpsc::channel();
            let (finish, finished) = mpsc::channel();
            let mut answers = Vec::with_capacity(workers);
            let mut tasks: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::with_capacity(workers);
            for todo in todo {
                let (answer_to, answer) = mpsc::channel::<Arc<[f64]>>();
                answers.push(answer_to);
                let (results, finish) = (results.clone(), finish.clone());
                // A channel is closed at the other end only when the step has failed there.
                tasks.push(Box::new(move || {
                    let mut open = Vec::with_capacity(todo.len());
                    for todo in todo {
                        match todo.forward(model, head_bytes) {
                            Ok((index, sums, forward)) => {
                                open.push(forward);
                                let _ = results.send(Ok((index, sums)));
                            }
                            Err(error) => {
                                let _ = results.send(Err(error));
                                return;
                            }
                        }
                    }
                    drop(results);
                    if let Ok(answer) = answer.recv() {
                        let done = open.into_iter().try_for_each(|open| open.backward(model, &answer));
                        let _ = finish.send(done);
                    }
                }));
            }
            drop((results, finish));
            let lanes = &lanes;
            threads.run(tasks, move || {
                for result in arrived {
                    let (index, sums) = result?;
                    place(&mut found, &lanes[index], sums);
                }
                let sums = whole(found);
                let answer: Arc<[f64]> = decide(&sums)?.into();
                for to in answers {
                    let _ = to.send(Arc::clone(&answer));
                }
                for done in finished {
                    done?;
                }
                Ok::<_, E>((sums, answer.to_vec()))
            })?
        };
        if answer.iter().any(|g| *g != 0.0) {
            in_pool(|| self.reduce(lanes.len(), grads));
        }
        Ok(sums)
    }

    /// Adds the lanes' gradients to `grads`, lane by lane, and clears them.
    fn reduce(&mut self, lanes: usize, grads: &mut ParamGrads) {
        for station in &mut self.stations[1..lanes] {
            let Some(own) = &mut station.grads else { continue };
            let total: usize = own.iter().map(<[f32]>::len).sum();
            timed(Op::Reduce, Pass::Backward, Work::elements(4 * total, 1), || {
                let chunks: Vec<_> = grads
                    .iter_mut()
                    .zip(own.iter_mut())
                    .flat_map(|(sum, own)| sum.chunks_mut(REDUCE_CHUNK).zip(own.chunks_mut(REDUCE_CHUNK)))
                    .collect();
                chunks.into_par_iter().with_min_len(2).for_each(|(sum, own)| {
                    for (sum, g) in sum.iter_mut().zip(own) {
                        *sum += *g;
                        *g = 0.0;
                    }
                });
            });
        }
    }

    /// Workspace of lane `index`.
    /// Gives the memory of free buffers back to the system.
    pub(super) fn release(&self) {
        self.stations.iter().for_each(|station| station.home.release());
    }

    fn home(&mut self, index: usize) -> Arc<Workspace> {
        if self.stations.len() <= index {
            self.stations.resize_with(index + 1, Station::default);
        }
        Arc::clone(&self.stations[index].home)
    }

    /// Threads for this many lanes, with a station for each lane.
    fn workers(&mut self, lanes: usize) -> usize {
        self.home(lanes - 1);
        let wanted = lanes.min(rayon::current_num_threads());
        if wanted < 2 { 1 } else { self.threads.grow(wanted).clamp(1, wanted) }
    }
}

/// Puts a lane's results where they belong in the whole batch.
fn place(found: &mut [Option<SequenceLogp>], lane: &Lane, sums: Vec<SequenceLogp>) {
    for (q, logp) in lane.sequences.iter().zip(sums) {
        found[*q] = Some(logp);
    }
}

/// The results of all lanes, when all are in their places.
fn whole(found: Vec<Option<SequenceLogp>>) -> Vec<SequenceLogp> {
    found.into_iter().map(|logp| logp.expect("every sequence is in one lane")).collect()
}

/// Unwinds the tape from `answer`, one value a sequence, with the buffers of `grads` moved into dfdx for the time being.
fn backward(
    model: &Llama,
    batch: &PackedView<'_>,
    answer: &[f64],
    mut tape: OwnedTape<f32, Cpu>,
    logps: &Act,
    grads: &mut ParamGrads,
) -> Result<(), ModelError> {
    if answer.iter().all(|g| *g == 0.0) {
        return Ok(());
    }
    let mut row_grads = logps.workspace().buffer(batch.rows.len());
    per_row(batch, answer, &mut row_grads);
    let buffers = model.params.iter().map(|p| p.tensor.clone()).zip(grads.take()).collect();
    let loss = seed(&mut tape, logps, row_grads, buffers)?;
    let failed = |source| ModelError::Tensor { doing: "the backward pass", source };
    let mut unwound = match loss.put_tape(tape).try_backward() {
        Ok(unwound) => unwound,
        Err(source) => {
            *grads = ParamGrads::zeros(&model.params);
            return Err(failed(source));
        }
    };
    let mut buffers = Vec::with_capacity(model.params.len());
    for parameter in &model.params {
        let buffer = unwound.get_or_alloc_mut(&parameter.tensor).map_err(failed)?;
        buffers.push(std::mem::take(&mut **buffer));
    }
    grads.restore(buffers);
    Ok(())
}
