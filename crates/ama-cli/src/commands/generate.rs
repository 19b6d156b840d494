//! `ama generate`: continue a prompt.

use std::path::PathBuf;

use ama_model::generate::{GenerateOptions, generate};
use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::console::{self, Console};
use crate::generation::decode;
use crate::policy::Policy;

/// Options of `ama generate`.
#[derive(Debug, Args)]
#[command(
    after_help = "The answer ends at the tokenizer's end of sequence, and at eos_token_id of config.json and of \
    generation_config.json.\n\nExamples:\n  ama generate --model models/base --prompt 'Once upon a time'\n  \
    ama generate --model models/base --prompt 'Dear diary,' --temperature 0.8 --top-p 0.95 --seed 3"
)]
pub(crate) struct Options {
    /// Model folder
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Text to continue; special tokens written out in it are recognised
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Longest continuation in tokens
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_new_tokens: usize,
    /// 0 takes the likeliest token each time; above 0, tokens are drawn
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    temperature: f64,
    /// Draw only from the likeliest tokens whose probabilities reach this sum, in (0, 1]
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    top_p: f64,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Runs `ama generate`.
///
/// # Errors
/// Bad input, or damaged weights.
pub(crate) fn run(options: &Options, console: Console) -> Result<()> {
    let policy = Policy::open(&options.model)?;
    let prompt = policy.tokenizer.encode_prompt(&options.prompt)?;
    let prompt_tokens = prompt.len();
    let how = GenerateOptions {
        max_new_tokens: options.max_new_tokens,
        temperature: options.temperature,
        top_p: options.top_p,
        seed: options.seed,
        stop_ids: policy.stop_ids.clone(),
    };
    let ids = generate(&policy.model, &[prompt], &how)?.pop().unwrap_or_default();
    let (positions, limit) = (prompt_tokens + ids.len(), policy.model.config().max_position_embeddings);
    if positions > limit {
        console::note(&format!(
            "{}: {positions} tokens of prompt and answer are beyond max_position_embeddings {limit} of config.json; \
             the model was not made for that",
            options.model.display()
        ));
    }
    let text = decode(&policy.tokenizer, &ids)?;
    console.say(&text)?;
    console.finish(&json!({
        "text": text, "prompt_tokens": prompt_tokens, "new_tokens": ids.len(),
        "stopped": ids.len() < options.max_new_tokens,
    }))
}
