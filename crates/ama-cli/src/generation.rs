//! How answers are generated.

use ama_data::{DataError, PairTokenizer};
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

/// The text of generated ids. A model may have more embeddings than its tokenizer has tokens (padding of the
/// vocabulary), and one that was trained too little may choose such an id: it becomes one U+FFFD at the end, which no
/// verifier accepts.
///
/// # Errors
/// The tokenizer's decoder fails.
pub(crate) fn decode(tokenizer: &PairTokenizer, ids: &[u32]) -> Result<String, DataError> {
    let known: Vec<u32> = ids.iter().copied().filter(|&id| (id as usize) < tokenizer.vocab_size()).collect();
    let mut text = tokenizer.decode(&known)?;
    if known.len() < ids.len() {
        text.push(char::REPLACEMENT_CHARACTER);
    }
    Ok(text)
}
