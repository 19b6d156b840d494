//! A model folder in memory: weights and tokenizer that fit each other.

use std::path::{Path, PathBuf};

use ama_data::PairTokenizer;
use ama_model::folder::{self, SaveDtype};
use ama_model::{Llama, LlamaConfig};
use ama_safetensors::{check_folder, check_model, refuse_lfs_pointer};
use anyhow::Result;

use crate::exit::bad_input;
use crate::{generation, threads};

/// A model with its tokenizer and where they came from.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) model: Llama,
    pub(crate) tokenizer: PairTokenizer,
    /// The folder, from which tokenizer files are copied beside new weights.
    pub(crate) folder: PathBuf,
    /// Hash of configuration and weights.
    pub(crate) fingerprint: [u8; 32],
    /// Tokens that end an answer.
    pub(crate) stop_ids: Vec<u32>,
}

impl Policy {
    /// Loads a Hugging Face folder.
    ///
    /// # Errors
    /// Anything wrong with configuration, weights or tokenizer, or a tokenizer that is too large for the weights.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        want_model(folder)?;
        // Another family is named as such, before its tokenizer is looked at.
        LlamaConfig::from_json(&folder.join("config.json"))?;
        let tokenizer = PairTokenizer::from_folder(folder)?;
        let stop_ids = generation::stop_ids(&tokenizer, folder)?;
        let loaded = folder::load(folder)?;
        fits(&tokenizer, &loaded.config, folder)?;
        let fingerprint = folder::params_fingerprint(&loaded.config, &loaded.params);
        let mut model = Llama::new(loaded.config, loaded.params)?;
        model.set_lanes(threads::count());
        Ok(Self { model, tokenizer, folder: folder.to_path_buf(), fingerprint, stop_ids })
    }

    /// Writes the model with its tokenizer files to a new folder, whole or not at all.
    ///
    /// # Errors
    /// The folder exists and is not empty, or the disk refuses.
    pub(crate) fn save(&self, out: &Path, dtype: SaveDtype) -> Result<()> {
        Ok(folder::save(self.model.config(), self.model.params(), dtype, out, Some(&self.folder))?)
    }
}

/// Refuses what is no model folder, and a folder whose tokenizer cannot be read.
///
/// # Errors
/// What the path is instead; `tokenizer.json` is missing or is a Git LFS pointer.
pub(crate) fn want_model(folder: &Path) -> Result<()> {
    check_model(folder)?;
    if !folder.join("config.json").exists() {
        return Err(bad_input(format!(
            "{}: no config.json beside the weights; copy the one that belongs to them, or download the model again",
            folder.display()
        )));
    }
    want_tokenizer(folder)
}

/// As [`want_model`], for a folder that needs no weights.
///
/// # Errors
/// As [`want_model`].
pub(crate) fn want_folder(folder: &Path) -> Result<()> {
    check_folder(folder)?;
    want_tokenizer(folder)
}

/// Refuses a folder without `tokenizer.json`, and pointers in place of the files that a tokenizer is read from.
fn want_tokenizer(folder: &Path) -> Result<()> {
    for name in [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "generation_config.json",
        "chat_template.jinja",
    ] {
        refuse_lfs_pointer(&folder.join(name))?;
    }
    if folder.join("tokenizer.json").exists() {
        return Ok(());
    }
    let others = ["tokenizer.model", "tekken.json", "spiece.model", "vocab.json", "vocab.txt"];
    let found = others.into_iter().find(|name| folder.join(name).exists());
    Err(bad_input(match found {
        Some(found) => format!(
            "{}: no tokenizer.json, only {found}, which is not read; write it once in Python: \
             AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
            folder.display()
        ),
        None => format!(
            "{}: no tokenizer.json; copy the one that belongs to the model into the folder",
            folder.display()
        ),
    }))
}

/// Refuses a tokenizer that can produce ids without an embedding.
pub(crate) fn fits(tokenizer: &PairTokenizer, config: &LlamaConfig, folder: &Path) -> Result<()> {
    if tokenizer.vocab_size() <= config.vocab_size {
        return Ok(());
    }
    Err(bad_input(format!(
        "{}: tokenizer.json has {} tokens but the model has embeddings for {}; use the tokenizer that belongs to the \
         weights",
        folder.display(),
        tokenizer.vocab_size(),
        config.vocab_size
    )))
}
