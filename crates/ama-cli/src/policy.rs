//! A model folder in memory: weights and tokenizer that fit each other.

use std::path::{Path, PathBuf};

use ama_data::PairTokenizer;
use ama_model::folder::{self, SaveDtype};
use ama_model::{Llama, LlamaConfig};
use anyhow::Result;

use crate::exit::bad_input;
use crate::threads;

/// A model with its tokenizer and where they came from.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) model: Llama,
    pub(crate) tokenizer: PairTokenizer,
    /// The folder, from which tokenizer files are copied beside new weights.
    pub(crate) folder: PathBuf,
    /// Hash of configuration and weights.
    pub(crate) fingerprint: [u8; 32],
}

impl Policy {
    /// Loads a Hugging Face folder.
    ///
    /// # Errors
    /// Anything wrong with configuration, weights or tokenizer, or a tokenizer that is too large for the weights.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        want_folder(folder)?;
        let tokenizer = PairTokenizer::from_folder(folder)?;
        let loaded = folder::load(folder)?;
        fits(&tokenizer, &loaded.config, folder)?;
        let fingerprint = folder::params_fingerprint(&loaded.config, &loaded.params);
        let mut model = Llama::new(loaded.config, loaded.params)?;
        model.set_lanes(threads::count());
        Ok(Self { model, tokenizer, folder: folder.to_path_buf(), fingerprint })
    }

    /// Writes the model with its tokenizer files to a new folder, whole or not at all.
    ///
    /// # Errors
    /// The folder exists and is not empty, or the disk refuses.
    pub(crate) fn save(&self, out: &Path, dtype: SaveDtype) -> Result<()> {
        Ok(folder::save(self.model.config(), self.model.params(), dtype, out, Some(&self.folder))?)
    }
}

/// A missing folder is named as such, rather than as its first missing file.
pub(crate) fn want_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    Err(bad_input(format!(
        "{}: no such folder; want a Hugging Face model folder (config.json, model.safetensors, tokenizer.json)",
        folder.display()
    )))
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
