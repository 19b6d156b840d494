//! Greedy and temperature generation with a key/value cache, many prompts at a time.
//!
//! All running sequences advance together: one matrix product per layer and step over the whole batch, then
//! one small attention per sequence against its own cache. Prompts are prefilled packed, back to back without
//! padding. A finished sequence leaves at once; waiting prompts take its place while the caches stay under a
//! byte budget.

mod cache;
mod decode;
mod sample;

use crate::error::ModelError;
use crate::{Llama, LlamaConfig};

use self::decode::{Runner, Sequence};

/// Bytes that the caches of all running sequences may take together; one sequence always runs.
const CACHE_BYTES: usize = 1 << 30;
/// Prompt tokens prefilled in one packed pass; one prompt always goes.
const PREFILL_TOKENS: usize = 4096;
/// Largest `max_new_tokens`.
const MAX_NEW_TOKENS: usize = 1 << 20;

/// How to continue the prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens to generate per prompt, up to 2^20.
    pub max_new_tokens: usize,
    /// 0 takes the likeliest token each time (the lowest id among equals); above 0, tokens are drawn from
    /// `softmax(logits / temperature)`.
    pub temperature: f64,
    /// Draw only from the likeliest tokens whose probabilities first reach this sum (nucleus sampling,
    /// Holtzman et al. 2019, arXiv 1904.09751); in (0, 1], where 1 draws from all. Without effect when
    /// `temperature` is 0.
    pub top_p: f64,
    /// Seed of the draws. Prompt number `i` has ChaCha8 stream `i` of this seed to itself.
    pub seed: u64,
    /// Tokens that end a sequence. They are not part of the result.
    pub stop_ids: Vec<u32>,
}

impl Default for GenerateOptions {
    /// Greedy, 128 tokens, nothing stops it earlier.
    fn default() -> Self {
        Self { max_new_tokens: 128, temperature: 0.0, top_p: 1.0, seed: 0, stop_ids: Vec::new() }
    }
}

/// Continues every prompt; result `i` holds the new tokens of prompt `i`, without prompt and without stop
/// token.
///
/// A result shorter than `max_new_tokens` was ended by a stop token. What a prompt gives does not depend on
/// the other prompts of the call, up to the rounding of matrix products of another height. Sequences may grow
/// past `max_position_embeddings`, as in `transformers`.
///
/// # Errors
/// [`ModelError::EmptyPrompt`], [`ModelError::TokenOutOfRange`], [`ModelError::Option`], and
/// [`ModelError::NonFiniteLogits`] if the weights are damaged.
///
/// # Example
/// ```
/// use ama_model::generate::{GenerateOptions, generate};
/// use ama_model::{Init, Llama, LlamaConfig};
///
/// let config = LlamaConfig::from_json_str(
///     r#"{"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
///         "num_attention_heads": 2, "vocab_size": 50, "tie_word_embeddings": true}"#,
///     "example".as_ref(),
/// )?;
/// let model = Llama::random(&config, 0, Init::Hf { std: 0.02 })?;
/// let options = GenerateOptions { max_new_tokens: 5, ..GenerateOptions::default() };
/// let new = generate(&model, &[vec![1, 2, 3], vec![4]], &options)?;
/// assert_eq!(new.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5]);
/// # Ok::<(), ama_model::ModelError>(())
/// ```
pub fn generate(
    model: &Llama,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
) -> Result<Vec<Vec<u32>>, ModelError> {
    generate_within(model, prompts, options, CACHE_BYTES, PREFILL_TOKENS)
}

/// As [`generate()`], with the limits on memory given.
fn generate_within(
    model: &Llama,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    cache_bytes: usize,
    prefill_tokens: usize,
) -> Result<Vec<Vec<u32>>, ModelError> {
    check(model.config(), prompts, options)?;
    if options.max_new_tokens == 0 {
        return Ok(vec![Vec::new(); prompts.len()]);
    }
    // On a thread of the pool, so that the many small parallel loops start without a hand-over each.
    rayon::scope(|_| run(model, prompts, options, cache_bytes, prefill_tokens))
}

/// Admits, steps and retires sequences until no prompt is left.
fn run(
    model: &Llama,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    cache_bytes: usize,
    prefill_tokens: usize,
) -> Result<Vec<Vec<u32>>, ModelError> {
    let cost = |prompt: usize| {
        sequence_bytes(model.config(), prompts[prompt].len().saturating_add(options.max_new_tokens))
    };
    let mut done = vec![Vec::new(); prompts.len()];
    let mut runner = Runner::new(model);
    let mut waiting = (0..prompts.len()).peekable();
    let mut running: Vec<Sequence> = Vec::new();
    let mut held = 0usize;
    while !running.is_empty() || waiting.peek().is_some() {
        // Newcomers come in while half of the budget is free, so that a prefill is worth its pass.
        while held <= cache_bytes / 2 && waiting.peek().is_some() {
            let mut tokens = 0usize;
            let mut newcomers = Vec::new();
            while let Some(prompt) = waiting.next_if(|p| {
                let first = newcomers.is_empty();
                let fits = held.saturating_add(cost(*p)) <= cache_bytes;
                (fits || (first && running.is_empty()))
                    && (first || tokens.saturating_add(prompts[*p].len()) <= prefill_tokens)
            }) {
                held = held.saturating_add(cost(prompt));
                tokens += prompts[prompt].len();
                newcomers.push(Sequence::new(model.config(), prompt, options));
            }
            if newcomers.is_empty() {
                break;
            }
            runner.prefill(&mut newcomers, prompts, options)?;
            running.append(&mut newcomers);
        }
        running.retain_mut(|sequence| {
            let finished = sequence.finished(options);
            if finished {
                held = held.saturating_sub(cost(sequence.prompt));
                done[sequence.prompt] = sequence.take_result();
            }
            !finished
        });
        runner.step(&mut running, prompts, options)?;
    }
    Ok(done)
}

/// Bytes of one sequence's caches when it has grown to `tokens`.
fn sequence_bytes(config: &LlamaConfig, tokens: usize) -> usize {
    let per_token = 2 * size_of::<f32>() * config.num_key_value_heads * config.head_dim;
    tokens.next_multiple_of(cache::BLOCK).saturating_mul(per_token).saturating_mul(config.num_hidden_layers)
}

fn check(config: &LlamaConfig, prompts: &[Vec<u32>], options: &GenerateOptions) -> Result<(), ModelError> {
    if options.max_new_tokens > MAX_NEW_TOKENS {
        let got = options.max_new_tokens as f64;
        return Err(ModelError::Option { name: "max_new_tokens", got, want: "at most 1048576" });
    }
    if !(options.temperature.is_finite() && options.temperature >= 0.0) {
        let want = "a finite number of at least 0 (0 is greedy)";
        return Err(ModelError::Option { name: "temperature", got: options.temperature, want });
    }
    if !(options.top_p > 0.0 && options.top_p <= 1.0) {
        return Err(ModelError::Option { name: "top_p", got: options.top_p, want: "above 0 and at most 1" });
    }
    for (prompt, ids) in prompts.iter().enumerate() {
        if ids.is_empty() {
            return Err(ModelError::EmptyPrompt { prompt });
        }
        if let Some(&token) = ids.iter().find(|id| **id as usize >= config.vocab_size) {
            return Err(ModelError::TokenOutOfRange { prompt, token, vocab_size: config.vocab_size });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Init;

    fn model() -> Llama {
        let config = LlamaConfig::from_json_str(
            r#"{"model_type": "llama", "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
                "num_attention_heads": 6, "num_key_value_heads": 3, "vocab_size": 61, "tie_word_embeddings": true}"#,
            "test".as_ref(),
        )
        .expect("a valid configuration");
        Llama::random(&config, 3, Init::Hf { std: 0.4 }).expect("a model")
    }

    /// Ten prompts of 1 to 40 tokens.
    fn prompts() -> Vec<Vec<u32>> {
        (0..10u32).map(|i| (0..=(i * 17 % 40)).map(|j| (i * 7 + j * 13) % 61).collect()).collect()
    }

    /// Limits that force one sequence at a time, or a few, change nothing.
    #[test]
    fn admission_does_not_change_results() {
        let (model, prompts) = (model(), prompts());
        let stop_ids = vec![5, 17, 33];
        let greedy = GenerateOptions { max_new_tokens: 40, stop_ids, ..GenerateOptions::default() };
        let drawn = GenerateOptions { temperature: 1.3, top_p: 0.8, seed: 9, ..greedy.clone() };
        for options in [greedy, drawn] {
            let all = generate(&model, &prompts, &options).expect("generates");
            assert!(all.iter().any(|new| new.len() < 40) && all.iter().any(|new| new.len() > 1));
            let one = sequence_bytes(model.config(), 80);
            for (cache_bytes, prefill) in [(0, 0), (one, 7), (3 * one, 50), (usize::MAX, 1)] {
                let some = generate_within(&model, &prompts, &options, cache_bytes, prefill);
                assert_eq!(some.expect("generates"), all, "{cache_bytes} bytes, {prefill} tokens");
            }
        }
    }
}
