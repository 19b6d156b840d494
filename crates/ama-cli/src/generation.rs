//! How answers are generated.

use ama_data::PairTokenizer;
use ama_model::LlamaConfig;
use ama_model::generate::GenerateOptions;

/// The likeliest answer, up to the end of the sequence.
pub(crate) fn greedy(
    tokenizer: &PairTokenizer,
    config: &LlamaConfig,
    max_new_tokens: usize,
) -> GenerateOptions {
    GenerateOptions { max_new_tokens, stop_ids: stop_ids(tokenizer, config), ..GenerateOptions::default() }
}

/// The tokenizer's end of sequence and those of the model's configuration.
pub(crate) fn stop_ids(tokenizer: &PairTokenizer, config: &LlamaConfig) -> Vec<u32> {
    let mut ids = vec![tokenizer.eos_id()];
    ids.extend(config.eos_token_ids.iter().copied());
    ids.sort_unstable();
    ids.dedup();
    ids
}
