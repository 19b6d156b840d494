//! How answers are generated.

use std::path::Path;

use ama_data::{DataError, PairTokenizer};
use ama_model::LlamaConfig;
use ama_model::config::generation_eos_token_ids;
use ama_model::generate::GenerateOptions;
use anyhow::Result;

use crate::policy::Policy;

/// The likeliest answer, up to a token that ends it.
pub(crate) fn greedy(policy: &Policy, max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens, stop_ids: policy.stop_ids.clone(), ..GenerateOptions::default() }
}

/// The tokenizer's end of sequence and those that the folder's configurations name, in ascending order.
///
/// # Errors
/// As [`configured_stop_ids`].
pub(crate) fn stop_ids(tokenizer: &PairTokenizer, folder: &Path) -> Result<Vec<u32>> {
    let mut ids = configured_stop_ids(folder)?;
    ids.push(tokenizer.eos_id());
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// `eos_token_id` of `config.json` and of `generation_config.json`.
///
/// # Errors
/// One of them cannot be read, or has a value that is no token id.
pub(crate) fn configured_stop_ids(folder: &Path) -> Result<Vec<u32>> {
    let mut ids = LlamaConfig::from_json(&folder.join("config.json"))?.eos_token_ids;
    ids.extend(generation_eos_token_ids(folder)?);
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
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
