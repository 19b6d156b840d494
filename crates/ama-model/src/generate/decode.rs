//! The decoder on plain slices: prefill of packed prompts, then steps of one token per sequence.
//!
//! The same layer as `decoder.rs`, without a tape and with the attention left to the caller: packed causal
//! attention when prompts are read, each sequence's cache when it is stepped.

use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::GenerateOptions;
use super::cache::LayerCache;
use super::sample::{next_token, stream};
use crate::access::values;
use crate::error::ModelError;
use crate::ops::attention::{AttentionPlan, Heads, attention_forward};
use crate::ops::embedding::gather_rows;
use crate::ops::linear::linear_forward;
use crate::ops::rmsnorm::rmsnorm_forward;
use crate::ops::rope::{RopeTable, rotate};
use crate::ops::swiglu::swiglu_forward;
use crate::{Llama, LlamaConfig, PackedView};

/// Bytes of logits held at a time.
const LOGIT_BYTES: usize = 32 << 20;

/// One running sequence.
pub(super) struct Sequence {
    /// Index into the prompts.
    pub(super) prompt: usize,
    caches: Vec<LayerCache>,
    new: Vec<u32>,
    stopped: bool,
    rng: ChaCha8Rng,
}

impl Sequence {
    pub(super) fn new(config: &LlamaConfig, prompt: usize, options: &GenerateOptions) -> Self {
        let caches = (0..config.num_hidden_layers).map(|_| LayerCache::default()).collect();
        Self { prompt, caches, new: Vec::new(), stopped: false, rng: stream(options.seed, prompt) }
    }

    /// Whether a stop token came or all tokens asked for are there.
    pub(super) fn finished(&self, options: &GenerateOptions) -> bool {
        self.stopped || self.new.len() >= options.max_new_tokens
    }

    /// The new tokens; the sequence is done with.
    pub(super) fn take_result(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.new)
    }
}

/// One layer's weights; matrices `[out, in]`.
struct Layer<'a> {
    input_norm: &'a [f32],
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    o: &'a [f32],
    post_norm: &'a [f32],
    gate: &'a [f32],
    up: &'a [f32],
    down: &'a [f32],
}

/// Borrowed weights and buffers that are used again at every step.
pub(super) struct Runner<'a> {
    model: &'a Llama,
    heads: Heads,
    embedding: &'a [f32],
    layers: Vec<Layer<'a>>,
    norm: &'a [f32],
    head: &'a [f32],
    buffers: Buffers,
    logits: Vec<f32>,
}

/// Activations of one layer, `[rows, ..]`.
#[derive(Default)]
struct Buffers {
    h: Vec<f32>,
    scale: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    mixed: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    inner: Vec<f32>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(model: &'a Llama) -> Self {
        let config = model.config();
        let weight = |name: &str| -> &'a [f32] {
            let parameter = model.params().get(name).expect("Llama::new checked every name");
            values(&parameter.tensor)
        };
        let layer = |i: usize| {
            let part = |part: &str| weight(&format!("model.layers.{i}.{part}.weight"));
            Layer {
                input_norm: part("input_layernorm"),
                q: part("self_attn.q_proj"),
                k: part("self_attn.k_proj"),
                v: part("self_attn.v_proj"),
                o: part("self_attn.o_proj"),
                post_norm: part("post_attention_layernorm"),
                gate: part("mlp.gate_proj"),
                up: part("mlp.up_proj"),
                down: part("mlp.down_proj"),
            }
        };
        let embedding = weight("model.embed_tokens.weight");
        Self {
            model,
            heads: model.heads(),
            embedding,
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            norm: weight("model.norm.weight"),
            head: if config.tie_word_embeddings { embedding } else { weight("lm_head.weight") },
            buffers: Buffers::default(),
            logits: Vec::new(),
        }
    }

    /// Reads the prompts of new sequences in one packed pass and chooses their first tokens.
    pub(super) fn prefill(
        &mut self,
        sequences: &mut [Sequence],
        prompts: &[Vec<u32>],
        options: &GenerateOptions,
    ) -> Result<(), ModelError> {
        if sequences.is_empty() {
            return Ok(());
        }
        let mut ids: Vec<u32> = Vec::new();
        let mut offsets = vec![0u32];
        for sequence in sequences.iter() {
            ids.extend(&prompts[sequence.prompt]);
            // A batch of 2^32 tokens is refused by the plan below.
            offsets.push(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        }
        let batch = PackedView {
            ids: &ids,
            segment_offsets: &offsets,
            segment_prefix: &vec![None; sequences.len()],
            rows: &[],
            targets: &[],
            sequence_offsets: &[0],
        };
        let plan = AttentionPlan::new(&batch)?;
        let heads = self.heads;
        let width = heads.kv * heads.dim;
        let x = self.forward(&ids, plan.positions(), |layer, q, k, v, out| {
            attention_forward(q, k, v, heads, &plan, out);
            sequences.par_iter_mut().zip(offsets.par_windows(2)).for_each(|(sequence, bounds)| {
                let rows = bounds[0] as usize * width..bounds[1] as usize * width;
                sequence.caches[layer].append(heads, &k[rows.clone()], &v[rows]);
            });
        });
        let d = self.model.config().hidden_size;
        let last: Vec<f32> = offsets[1..]
            .iter()
            .flat_map(|end| &x[(*end as usize - 1) * d..*end as usize * d])
            .copied()
            .collect();
        self.choose(&last, sequences, prompts, options)
    }

    /// Feeds every sequence its newest token and chooses the next.
    pub(super) fn step(
        &mut self,
        sequences: &mut [Sequence],
        prompts: &[Vec<u32>],
        options: &GenerateOptions,
    ) -> Result<(), ModelError> {
        if sequences.is_empty() {
            return Ok(());
        }
        let ids: Vec<u32> =
            sequences.iter().map(|s| *s.new.last().expect("prefill chose a first token")).collect();
        // The prompt, and all new tokens but the newest, are in the cache. A prompt has fewer than 2^32
        // tokens.
        let positions: Vec<u32> =
            sequences.iter().map(|s| (prompts[s.prompt].len() + s.new.len() - 1) as u32).collect();
        let heads = self.heads;
        let (queries, width) = (heads.query * heads.dim, heads.kv * heads.dim);
        let x = self.forward(&ids, &positions, |layer, q, k, v, out| {
            let rows = q.par_chunks(queries).zip(k.par_chunks(width).zip(v.par_chunks(width)));
            sequences
                .par_iter_mut()
                .zip(rows)
                .zip(out.par_chunks_mut(queries))
                .with_min_len(8)
                .for_each_init(Vec::new, |scores, ((sequence, (q, (k, v))), out)| {
                    let cache = &mut sequence.caches[layer];
                    cache.append(heads, k, v);
                    cache.attend(heads, q, out, scores);
                });
        });
        self.choose(&x, sequences, prompts, options)
    }

    /// Runs all layers on the tokens `ids` at `positions`, returning the residual stream `[tokens,
    /// hidden_size]`. `attend(layer, q, k, v, out)` gets rotated queries and keys.
    fn forward(
        &mut self,
        ids: &[u32],
        positions: &[u32],
        mut attend: impl FnMut(usize, &[f32], &[f32], &[f32], &mut [f32]),
    ) -> Vec<f32> {
        let config = self.model.config();
        let (n, d, inner, heads) = (ids.len(), config.hidden_size, config.intermediate_size, self.heads);
        let eps = config.rms_norm_eps as f32;
        let longest = positions.iter().max().map_or(0, |p| *p as usize + 1);
        let table: &RopeTable = &self.model.rope_table(longest);
        let (queries, width) = (heads.query * heads.dim, heads.kv * heads.dim);

        let mut x = vec![0.0; n * d];
        gather_rows(self.embedding, d, ids, &mut x);
        let b = &mut self.buffers;
        for (buffer, size) in [
            (&mut b.h, n * d),
            (&mut b.scale, n),
            (&mut b.q, n * queries),
            (&mut b.k, n * width),
            (&mut b.v, n * width),
            (&mut b.mixed, n * queries),
            (&mut b.gate, n * inner),
            (&mut b.up, n * inner),
            (&mut b.inner, n * inner),
        ] {
            buffer.resize(size, 0.0);
        }
        for (i, layer) in self.layers.iter().enumerate() {
            rmsnorm_forward(&x, layer.input_norm, eps, &mut b.h, &mut b.scale);
            linear_forward(&b.h, layer.q, d, &mut b.q, false);
            linear_forward(&b.h, layer.k, d, &mut b.k, false);
            linear_forward(&b.h, layer.v, d, &mut b.v, false);
            rotate(&mut b.q, positions, table, false);
            rotate(&mut b.k, positions, table, false);
            attend(i, &b.q, &b.k, &b.v, &mut b.mixed);
            linear_forward(&b.mixed, layer.o, queries, &mut x, true);

            rmsnorm_forward(&x, layer.post_norm, eps, &mut b.h, &mut b.scale);
            linear_forward(&b.h, layer.gate, d, &mut b.gate, false);
            linear_forward(&b.h, layer.up, d, &mut b.up, false);
            swiglu_forward(&b.gate, &b.up, &mut b.inner);
            linear_forward(&b.inner, layer.down, inner, &mut x, true);
        }
        x
    }

    /// Chooses every sequence's next token from its last hidden state, `x` `[sequences, hidden_size]`.
    fn choose(
        &mut self,
        x: &[f32],
        sequences: &mut [Sequence],
        prompts: &[Vec<u32>],
        options: &GenerateOptions,
    ) -> Result<(), ModelError> {
        let config = self.model.config();
        let (d, vocab) = (config.hidden_size, config.vocab_size);
        let (h, scale) = (&mut self.buffers.h, &mut self.buffers.scale);
        h.resize(x.len(), 0.0);
        scale.resize(sequences.len(), 0.0);
        rmsnorm_forward(x, self.norm, config.rms_norm_eps as f32, h, scale);
        let rows = (LOGIT_BYTES / (vocab * size_of::<f32>())).max(1);
        for (sequences, h) in sequences.chunks_mut(rows).zip(h.chunks(rows * d)) {
            self.logits.resize(sequences.len() * vocab, 0.0);
            linear_forward(h, self.head, d, &mut self.logits, false);
            sequences.par_iter_mut().zip(self.logits.par_chunks(vocab)).try_for_each(
                |(sequence, logits)| {
                    let Some(token) = next_token(logits, options, &mut sequence.rng) else {
                        let tokens = prompts[sequence.prompt].len() + sequence.new.len();
                        return Err(ModelError::NonFiniteLogits { sequence: sequence.prompt, tokens });
                    };
                    if options.stop_ids.contains(&token) {
                        sequence.stopped = true;
                    } else {
                        sequence.new.push(token);
                    }
                    Ok(())
                },
            )?;
        }
        Ok(())
    }
}
