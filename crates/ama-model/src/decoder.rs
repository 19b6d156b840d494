//! The decoder: embedding, layers of attention and SwiGLU, the head on the rows that are scored.
//!
//! One layer, with `x` the residual stream (Touvron et al. 2023, arXiv 2302.13971):
//! ```text
//! h = rmsnorm(x);  q, k, v = h Wq^T, h Wk^T, h Wv^T;  q, k = rope(q), rope(k)
//! x = x + attention(q, k, v) Wo^T
//! h = rmsnorm(x);  x = x + (silu(h Wgate^T) * (h Wup^T)) Wdown^T
//! ```
//! The same code runs with and without a tape. Without one, an activation is freed as soon as the next is computed.

mod init;

pub use init::Init;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dfdx::prelude::*;

use crate::access::{Flat, values};
use crate::grads::ParamGrads;
use crate::ops::attention::{AttentionPlan, Heads, attention};
use crate::ops::embedding::gather;
use crate::ops::head::{head, seed};
use crate::ops::linear::{linear_forward, project, project_onto};
use crate::ops::rmsnorm::rmsnorm;
use crate::ops::rope::{RopeTable, rope};
use crate::ops::swiglu::swiglu;
use crate::{LlamaConfig, ModelError, PackedView, Params, expected_parameters};

/// Bytes that the head may use for logits at a time, unless set otherwise.
const HEAD_BYTES: usize = 64 << 20;

/// Log-probability of one sequence's scored tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SequenceLogp {
    /// Sum over the tokens, nats.
    pub sum_nats: f64,
    /// Number of tokens summed.
    pub tokens: u32,
}

/// A Llama-family decoder with its weights.
#[derive(Debug)]
pub struct Llama {
    config: LlamaConfig,
    params: Params,
    head_bytes: usize,
    rope: Mutex<Arc<RopeTable>>,
    forwards: AtomicU64,
}

impl Clone for Llama {
    /// A model with the same weights (shared until one of the two is written to) and a forward count of its own.
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            params: self.params.clone(),
            head_bytes: self.head_bytes,
            rope: Mutex::new(self.rope_table(0)),
            forwards: AtomicU64::new(0),
        }
    }
}

/// Where a layer's parameters lie in canonical order, from the layer's first.
mod slot {
    pub(super) const INPUT_NORM: usize = 0;
    pub(super) const Q: usize = 1;
    pub(super) const K: usize = 2;
    pub(super) const V: usize = 3;
    pub(super) const O: usize = 4;
    pub(super) const POST_NORM: usize = 5;
    pub(super) const GATE: usize = 6;
    pub(super) const UP: usize = 7;
    pub(super) const DOWN: usize = 8;
    pub(super) const PER_LAYER: usize = 9;
}

impl Llama {
    /// A model of these parameters.
    ///
    /// # Errors
    /// [`ModelError::Shape`] if names, order or shapes are not those of [`expected_parameters`], or if the head counts
    /// cannot be used.
    pub fn new(config: LlamaConfig, params: Params) -> Result<Self, ModelError> {
        let shape = |key: &str, got: String, want: String| ModelError::Shape { key: key.into(), got, want };
        let (heads, kv, dim) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
        if kv == 0 || heads == 0 || !heads.is_multiple_of(kv) {
            let want = "a positive divisor of num_attention_heads".into();
            return Err(shape("num_key_value_heads", format!("{kv} (for {heads} heads)"), want));
        }
        if dim == 0 || !dim.is_multiple_of(2) {
            return Err(shape("head_dim", dim.to_string(), "a positive even number".into()));
        }
        let expected = expected_parameters(&config);
        if expected.len() != params.len() {
            return Err(shape("number of parameters", params.len().to_string(), expected.len().to_string()));
        }
        for (parameter, (name, want)) in params.iter().zip(&expected) {
            let elements: usize = want.iter().product();
            if parameter.name != *name || parameter.shape != *want || parameter.tensor.shape().0 != elements {
                let got = format!("{} {:?}", parameter.name, parameter.shape);
                return Err(shape(name, got, format!("{name} {want:?} at this place")));
            }
        }
        let rope = Mutex::new(Arc::new(RopeTable::new(config.rope_inv_freq(), 0)));
        Ok(Self { config, params, head_bytes: HEAD_BYTES, rope, forwards: AtomicU64::new(0) })
    }

    /// A freshly initialised model; the same seed gives the same bits on every machine.
    ///
    /// # Errors
    /// As [`Llama::new`], and [`ModelError::Shape`] for a deviation that is negative or not finite.
    pub fn random(config: &LlamaConfig, seed: u64, init: Init) -> Result<Self, ModelError> {
        let params = init::initialise(config, seed, init)?;
        Self::new(config.clone(), params)
    }

    /// The model's shape.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The weights.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The weights, to be changed in place; names and shapes must stay as they are.
    pub fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }

    /// Limits the memory that the head uses for logits at a time (64 MiB by default). If all logits of a batch fit, they
    /// are kept for the backward pass, else they are computed twice, in tiles.
    pub fn set_head_bytes(&mut self, bytes: usize) {
        self.head_bytes = bytes;
    }

    /// Packed forward passes done since this value was made (or cloned).
    #[must_use]
    pub fn forwards(&self) -> u64 {
        self.forwards.load(Ordering::Relaxed)
    }

    /// Head counts and width of the attention layers.
    #[must_use]
    pub fn heads(&self) -> Heads {
        Heads {
            query: self.config.num_attention_heads,
            kv: self.config.num_key_value_heads,
            dim: self.config.head_dim,
        }
    }

    /// Cosines and sines for positions `0..positions` at least; computed once and shared.
    #[must_use]
    pub fn rope_table(&self, positions: usize) -> Arc<RopeTable> {
        // The table is replaced whole, so a panic elsewhere cannot leave it half made.
        let mut table = self.rope.lock().unwrap_or_else(PoisonError::into_inner);
        if table.positions() < positions {
            Arc::make_mut(&mut table).extend(positions.next_power_of_two());
        }
        Arc::clone(&table)
    }

    /// Log-probability of every sequence of the batch; no tape, no activations kept.
    ///
    /// # Errors
    /// [`ModelError::Batch`], [`ModelError::BatchLength`] for a batch that breaks its contract.
    pub fn logps(&self, batch: &PackedView<'_>) -> Result<Vec<SequenceLogp>, ModelError> {
        Ok(sums(batch, &self.token_logps(batch)?))
    }

    /// Log-probability in nats of every target, `[rows]`.
    ///
    /// # Errors
    /// As [`Llama::logps`].
    pub fn token_logps(&self, batch: &PackedView<'_>) -> Result<Vec<f32>, ModelError> {
        in_pool(|| {
            let logps = self.forward(&mut NoneTape, batch)?;
            Ok(values(&logps).to_vec())
        })
    }

    /// Normalised final hidden states of the batch's rows, `[rows, hidden_size]`: what the head multiplies.
    ///
    /// # Errors
    /// As [`Llama::logps`].
    pub fn hidden_states(&self, batch: &PackedView<'_>) -> Result<Vec<f32>, ModelError> {
        in_pool(|| Ok(values(&self.hidden(&mut NoneTape, batch)?).to_vec()))
    }

    /// All logits of the batch's rows, `[rows, vocab_size]`, held whole: for inspection and tests, not for training.
    ///
    /// # Errors
    /// As [`Llama::logps`].
    pub fn logits(&self, batch: &PackedView<'_>) -> Result<Vec<f32>, ModelError> {
        in_pool(|| {
            let hidden = self.hidden(&mut NoneTape, batch)?;
            let mut logits = vec![0.0; batch.rows.len() * self.config.vocab_size];
            linear_forward(
                values(&hidden),
                values(self.head_weight()),
                self.config.hidden_size,
                &mut logits,
                false,
            );
            Ok(logits)
        })
    }

    /// One forward pass, then one backward pass for the gradient that `upstream` decides on; adds to `grads`.
    ///
    /// `upstream` gets the log-probabilities and answers with `d loss / d sum_nats` of every sequence. If all of these
    /// are 0 there is no backward pass.
    ///
    /// # Errors
    /// A batch that breaks its contract, gradients of another model, or an answer with the wrong number of values or a
    /// value that is not finite, as [`ModelError`]; whatever `upstream` returns. `grads` is unchanged then.
    pub fn accumulate_gradients<E: From<ModelError> + Send>(
        &self,
        batch: &PackedView<'_>,
        grads: &mut ParamGrads,
        upstream: impl FnOnce(&[SequenceLogp]) -> Result<Vec<f64>, E> + Send,
    ) -> Result<Vec<SequenceLogp>, E> {
        in_pool(|| {
            grads.check(&self.params)?;
            let mut tape = OwnedTape::<f32, Cpu>::default();
            let logps = self.forward(&mut tape, batch)?;
            let sums = sums(batch, values(&logps));
            let answer = upstream(&sums)?;
            check_upstream(&answer, sums.len())?;
            if answer.iter().any(|g| *g != 0.0) {
                self.backward(tape, logps, per_row(batch, &answer), grads)?;
            }
            Ok(sums)
        })
    }

    /// Unwinds the tape from `row_grads` `[rows]`, with the buffers of `grads` moved into dfdx for the time being.
    fn backward(
        &self,
        mut tape: OwnedTape<f32, Cpu>,
        logps: Flat,
        row_grads: Vec<f32>,
        grads: &mut ParamGrads,
    ) -> Result<(), ModelError> {
        let buffers = self.params.iter().map(|p| p.tensor.clone()).zip(grads.take()).collect();
        let loss = seed(&mut tape, logps, row_grads, buffers)?;
        let failed = |source| ModelError::Tensor { doing: "the backward pass", source };
        let mut unwound = match loss.put_tape(tape).try_backward() {
            Ok(unwound) => unwound,
            Err(source) => {
                *grads = ParamGrads::zeros(&self.params);
                return Err(failed(source));
            }
        };
        let mut buffers = Vec::with_capacity(self.params.len());
        for parameter in &self.params {
            let buffer = unwound.get_or_alloc_mut(&parameter.tensor).map_err(failed)?;
            buffers.push(std::mem::take(&mut **buffer));
        }
        grads.restore(buffers);
        Ok(())
    }

    fn weight(&self, index: usize) -> &Flat {
        &self.params.as_slice()[index].tensor
    }

    fn head_weight(&self) -> &Flat {
        let untied = 2 + slot::PER_LAYER * self.config.num_hidden_layers;
        self.weight(if self.config.tie_word_embeddings { 0 } else { untied })
    }

    /// Log-probabilities of the batch's targets, `[rows]`.
    fn forward<T: Tape<f32, Cpu>>(&self, tape: &mut T, batch: &PackedView<'_>) -> Result<Flat, ModelError> {
        let hidden = self.hidden(tape, batch)?;
        let targets = Arc::from(batch.targets);
        head(tape, hidden, self.config.hidden_size, self.head_weight(), targets, self.head_bytes)
    }

    /// Normalised final hidden states of the batch's rows, `[rows, hidden_size]`.
    fn hidden<T: Tape<f32, Cpu>>(&self, tape: &mut T, batch: &PackedView<'_>) -> Result<Flat, ModelError> {
        let config = &self.config;
        batch.validate(config.vocab_size)?;
        self.forwards.fetch_add(1, Ordering::Relaxed);
        let plan = Arc::new(AttentionPlan::new(batch)?);
        let positions: Arc<[u32]> = Arc::from(plan.positions());
        let longest = positions.iter().max().map_or(0, |p| *p as usize + 1);
        let table = self.rope_table(longest);
        let (d, inner, heads) = (config.hidden_size, config.intermediate_size, self.heads());
        let eps = config.rms_norm_eps as f32;

        let mut x = gather(tape, self.weight(0), d, Arc::from(batch.ids))?;
        for layer in 0..config.num_hidden_layers {
            let weight = |slot: usize| self.weight(1 + slot::PER_LAYER * layer + slot);
            let h = rmsnorm(tape, &x, weight(slot::INPUT_NORM), eps)?;
            let [q, k, v] = project(tape, h, d, [weight(slot::Q), weight(slot::K), weight(slot::V)])?;
            let q = rope(tape, q, &positions, &table);
            let k = rope(tape, k, &positions, &table);
            let mixed = attention(tape, [q, k, v], heads, &plan)?;
            x = project_onto(tape, mixed, heads.query * heads.dim, weight(slot::O), &x)?;

            let h = rmsnorm(tape, &x, weight(slot::POST_NORM), eps)?;
            let [gate, up] = project(tape, h, d, [weight(slot::GATE), weight(slot::UP)])?;
            let h = swiglu(tape, gate, up)?;
            x = project_onto(tape, h, inner, weight(slot::DOWN), &x)?;
        }
        let rows = gather(tape, &x, d, Arc::from(batch.rows))?;
        drop(x);
        rmsnorm(tape, &rows, self.weight(1 + slot::PER_LAYER * config.num_hidden_layers), eps)
    }
}

/// Runs the work on a thread of the current rayon pool, so that its many small parallel loops start without handing
/// over from an outside thread each time.
fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if rayon::current_thread_index().is_some() { work() } else { rayon::scope(|_| work()) }
}

/// Sums token log-probabilities per sequence, in f64.
fn sums(batch: &PackedView<'_>, tokens: &[f32]) -> Vec<SequenceLogp> {
    let sum = |q| {
        let tokens = &tokens[batch.sequence(q)];
        // A sequence's rows are a part of a packed batch of fewer than 2^32 rows.
        SequenceLogp { sum_nats: tokens.iter().map(|t| f64::from(*t)).sum(), tokens: tokens.len() as u32 }
    };
    (0..batch.sequences()).map(sum).collect()
}

/// Spreads per-sequence gradients over the rows of the sequences.
fn per_row(batch: &PackedView<'_>, upstream: &[f64]) -> Vec<f32> {
    let mut rows = vec![0.0; batch.rows.len()];
    for (q, g) in upstream.iter().enumerate() {
        rows[batch.sequence(q)].fill(*g as f32);
    }
    rows
}

fn check_upstream(upstream: &[f64], sequences: usize) -> Result<(), ModelError> {
    let bad = |sequence, got| Err(ModelError::Upstream { sequence, sequences, got });
    if upstream.len() != sequences {
        return bad(upstream.len().min(sequences), format!("one of {} values in all", upstream.len()));
    }
    match upstream.iter().position(|g| !(*g as f32).is_finite()) {
        Some(q) => bad(q, upstream[q].to_string()),
        None => Ok(()),
    }
}
