//! What is read of `generation_config.json`: the tokens that end an answer.

use std::path::Path;

use serde_json::{Map, Value};

use super::json::Reader;
use super::read;
use crate::error::ModelError;

/// `eos_token_id` of a folder's `generation_config.json`, a number or a list; empty without that file or key.
///
/// Instruction-tuned models often name the end of a turn only there, so these count beside
/// [`LlamaConfig::eos_token_ids`](super::LlamaConfig::eos_token_ids).
///
/// # Errors
/// [`ModelError::Io`], [`ModelError::Json`], [`ModelError::Folder`] for a Git LFS pointer, and [`ModelError::Config`] for
/// a value that is no token id.
pub fn generation_eos_token_ids(dir: &Path) -> Result<Vec<u32>, ModelError> {
    let path = dir.join("generation_config.json");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let map: Map<String, Value> = serde_json::from_str(&read(&path)?)
        .map_err(|source| ModelError::Json { path: path.clone(), source })?;
    Reader { map: &map, within: "", path: &path }.token_ids("eos_token_id")
}
