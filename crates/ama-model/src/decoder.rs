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
mod lanes;
mod layer;
mod step;

pub use init::Init;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dfdx::prelude::*;

use self::layer::{Asked, Geometry, Layer, PER_LAYER};
use self::step::Crew;
use crate::access::{Flat, values};
use crate::grads::ParamGrads;
use crate::ops::attention::{AttentionPlan, Heads};
use crate::ops::embedding::{embed, gather};
use crate::ops::head::head;
use crate::ops::linear::linear_forward;
use crate::ops::norm_project::Rotary;
use crate::ops::rmsnorm::rmsnorm;
use crate::ops::rope::RopeTable;
use crate::ops::tape::Act;
use crate::workspace::Workspace;
use crate::{LlamaConfig, ModelError, PackedView, Params, expected_parameters};

/// Bytes that the head may use for logits at a time, unless set otherwise: those of 512 tokens and 49,152 words fit, and
/// are not computed twice.
const HEAD_BYTES: usize = 128 << 20;

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
    checkpoint_activations: bool,
    lanes: usize,
    rope: Mutex<Arc<RopeTable>>,
    forwards: AtomicU64,
    crew: Mutex<Crew>,
}

impl Clone for Llama {
    /// A model with the same weights (shared until one of the two is written to) and a forward count of its own.
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            params: self.params.clone(),
            head_bytes: self.head_bytes,
            checkpoint_activations: self.checkpoint_activations,
            lanes: self.lanes,
            rope: Mutex::new(self.rope_table(0)),
            forwards: AtomicU64::new(0),
            crew: Mutex::default(),
        }
    }
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
        Ok(Self {
            config,
            params,
            head_bytes: HEAD_BYTES,
            checkpoint_activations: false,
            lanes: rayon::current_num_threads(),
            rope,
            forwards: AtomicU64::new(0),
            crew: Mutex::default(),
        })
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

    /// Limits the memory that the head uses for logits at a time (128 MiB by default). If all logits of a batch fit, they
    /// are kept for the backward pass, else they are computed twice, in tiles.
    pub fn set_head_bytes(&mut self, bytes: usize) {
        self.head_bytes = bytes;
    }

    /// Whether the backward pass runs every layer again from its input, instead of keeping what is inside of it: a third
    /// more arithmetic for a fraction of the activations' memory (Chen et al. 2016, arXiv 1604.06174). Off by default.
    pub fn set_checkpoint_activations(&mut self, on: bool) {
        self.checkpoint_activations = on;
    }

    /// In how many parts a batch is cut, to be run side by side on a thread each (at least 1; by default the number of
    /// threads of the pool in which the model was made, which a clone inherits). The last bits of a gradient depend on
    /// it, and do not depend on how many threads there really are.
    pub fn set_lanes(&mut self, lanes: usize) {
        self.lanes = lanes.max(1);
    }

    /// Gives the buffers of earlier passes back to the system; the next pass takes its own. Worth a call where batches of
    /// another size follow, as training follows scoring.
    pub fn release_buffers(&self) {
        self.idle_crew().release();
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
        self.begin(batch)?;
        self.crew().logps(self, batch)
    }

    /// Log-probability in nats of every target, `[rows]`.
    ///
    /// # Errors
    /// As [`Llama::logps`].
    pub fn token_logps(&self, batch: &PackedView<'_>) -> Result<Vec<f32>, ModelError> {
        self.begin(batch)?;
        in_pool(|| {
            Ok(self.forward(&mut NoneTape, batch, &Arc::default(), self.head_bytes)?.values().to_vec())
        })
    }

    /// Normalised final hidden states of the batch's rows, `[rows, hidden_size]`: what the head multiplies.
    ///
    /// # Errors
    /// As [`Llama::logps`].
    pub fn hidden_states(&self, batch: &PackedView<'_>) -> Result<Vec<f32>, ModelError> {
        self.begin(batch)?;
        in_pool(|| Ok(self.hidden(&mut NoneTape, batch, &Arc::default())?.values().to_vec()))
    }

    /// All logits of the batch's rows, `[rows, vocab_size]`, held whole: for inspection and tests, not for training.
    ///
    /// # Errors
    /// As [`Llama::logps`].
    pub fn logits(&self, batch: &PackedView<'_>) -> Result<Vec<f32>, ModelError> {
        self.begin(batch)?;
        in_pool(|| {
            let hidden = self.hidden(&mut NoneTape, batch, &Arc::default())?;
            let mut logits = vec![0.0; batch.rows.len() * self.config.vocab_size];
            linear_forward(
                hidden.values(),
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
        grads.check(&self.params)?;
        self.begin(batch)?;
        self.crew().gradients(self, batch, grads, upstream)
    }

    /// Checks the batch and counts the pass.
    fn begin(&self, batch: &PackedView<'_>) -> Result<(), ModelError> {
        batch.validate(self.config.vocab_size)?;
        self.forwards.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The crew for a pass; a second pass at the same time gets one of its own.
    fn crew(&self) -> CrewGuard<'_> {
        CrewGuard { model: self, crew: std::mem::take(&mut *self.idle_crew()) }
    }

    fn idle_crew(&self) -> std::sync::MutexGuard<'_, Crew> {
        // A crew is moved in and out whole.
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn weight(&self, index: usize) -> &Flat {
        &self.params.as_slice()[index].tensor
    }

    fn head_weight(&self) -> &Flat {
        let untied = 2 + PER_LAYER * self.config.num_hidden_layers;
        self.weight(if self.config.tie_word_embeddings { 0 } else { untied })
    }

    /// Log-probabilities of the batch's targets, `[rows]`; the batch was checked by [`Llama::begin`].
    fn forward<T: Tape<f32, Cpu>>(
        &self,
        tape: &mut T,
        batch: &PackedView<'_>,
        home: &Arc<Workspace>,
        head_bytes: usize,
    ) -> Result<Act, ModelError> {
        let hidden = self.hidden(tape, batch, home)?;
        let targets = Arc::from(batch.targets);
        head(tape, hidden, self.config.hidden_size, self.head_weight(), targets, head_bytes)
    }

    /// Normalised final hidden states of the batch's rows, `[rows, hidden_size]`.
    fn hidden<T: Tape<f32, Cpu>>(
        &self,
        tape: &mut T,
        batch: &PackedView<'_>,
        home: &Arc<Workspace>,
    ) -> Result<Act, ModelError> {
        home.begin_pass();
        let (config, d) = (&self.config, self.config.hidden_size);
        let plan = AttentionPlan::new(batch)?;
        let longest = plan.positions().iter().max().map_or(0, |p| *p as usize + 1);
        let (table, eps) = (self.rope_table(longest), config.rms_norm_eps as f32);
        let rotary = |positions| Rotary { positions, table: Arc::clone(&table) };
        // Only scored rows leave the last layer, with what lies between them in their segment.
        let (asked_by, asked) = plan.asked_by(batch.rows);
        let rows = asked.iter().map(|row| plan.positions()[*row as usize]).collect();
        let last = Asked { rows: Arc::from(&asked[..]), rotary: rotary(rows) };
        let every = Geometry {
            rotary: rotary(Arc::from(plan.positions())),
            plan: Arc::new(plan),
            asked: None,
            heads: self.heads(),
            inner: config.intermediate_size,
            eps,
        };
        let last = Geometry { plan: Arc::new(asked_by), asked: Some(last), ..every.clone() };
        let mut x = embed(tape, home, self.weight(0), d, Arc::from(batch.ids))?;
        let layers = config.num_hidden_layers;
        for (i, parameters) in self.params.as_slice()[1..].chunks_exact(PER_LAYER).take(layers).enumerate() {
            let layer = Layer::of(parameters);
            let geometry = if i + 1 == layers { &last } else { &every };
            x = if self.checkpoint_activations {
                layer.forward_again_in_backward(tape, &x, geometry)?
            } else {
                layer.forward(tape, &x, geometry)?
            };
        }
        let rows = if layers == 0 { batch.rows.to_vec() } else { places_among(&asked, batch.rows) };
        let rows = gather(tape, x, d, Arc::from(rows))?;
        rmsnorm(tape, rows, self.weight(1 + PER_LAYER * config.num_hidden_layers), eps)
    }
}

/// Where each of `rows` stands in the ascending `asked`, which has them all.
fn places_among(asked: &[u32], rows: &[u32]) -> Vec<u32> {
    // Fewer than 2^32 rows.
    rows.iter().map(|row| asked.partition_point(|asked| asked < row) as u32).collect()
}

/// A [`Crew`] on loan from its model.
struct CrewGuard<'a> {
    model: &'a Llama,
    crew: Crew,
}

impl Drop for CrewGuard<'_> {
    fn drop(&mut self) {
        *self.model.idle_crew() = std::mem::take(&mut self.crew);
    }
}

impl std::ops::Deref for CrewGuard<'_> {
    type Target = Crew;
    fn deref(&self) -> &Crew {
        &self.crew
    }
}

impl std::ops::DerefMut for CrewGuard<'_> {
    fn deref_mut(&mut self) -> &mut Crew {
        &mut self.crew
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

/// Spreads per-sequence gradients over the rows of the sequences, `rows` `[rows]`.
fn per_row(batch: &PackedView<'_>, upstream: &[f64], rows: &mut [f32]) {
    for (q, g) in upstream.iter().enumerate() {
        rows[batch.sequence(q)].fill(*g as f32);
    }
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
