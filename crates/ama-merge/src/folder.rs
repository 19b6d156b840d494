//! Model folders in the Hugging Face layout, read tensor by tensor.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ama_safetensors::{Entry, WeightsFile, check_model, open_weights};
use safetensors::Dtype;
use serde_json::{Map, Value};

use crate::error::MergeError;
use crate::json::read_object;

/// Output head of the architectures that may tie it to the embeddings.
pub(crate) const HEAD: &str = "lm_head.weight";
/// Embeddings it is tied to.
pub(crate) const EMBEDDINGS: &str = "model.embed_tokens.weight";

/// A tensor of a folder: its type, shape and place.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    /// Row-major; `[]` is a scalar.
    pub(crate) shape: Vec<usize>,
    file: usize,
    entry: Entry,
}

impl Tensor {
    /// Elements.
    pub(crate) fn len(&self) -> usize {
        self.entry.len()
    }
}

/// An opened model folder. Weights stay on disk until [`Folder::bytes`] is read.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) dir: PathBuf,
    /// In the order in which they lie on disk.
    pub(crate) tensors: Vec<Tensor>,
    by_name: HashMap<String, usize>,
    files: Vec<WeightsFile>,
    /// `config.json`; empty if there is none (bare weights can be merged, too).
    pub(crate) config: Map<String, Value>,
}

impl Folder {
    /// Opens and checks the weights files; see [`WeightsFile`].
    pub(crate) fn open(dir: &Path) -> Result<Self, MergeError> {
        check_model(dir)?;
        let files = open_weights(dir)?;
        let mut tensors = Vec::new();
        for (number, file) in files.iter().enumerate() {
            tensors.extend(file.entries().map(|(name, entry)| Tensor {
                name: name.to_owned(),
                dtype: entry.dtype,
                shape: entry.shape.clone(),
                file: number,
                entry: entry.clone(),
            }));
        }
        // Empty tensors share a place; their names order them.
        tensors.sort_by(|a, b| (a.file, a.entry.start(), &a.name).cmp(&(b.file, b.entry.start(), &b.name)));
        let by_name = tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
        let config = read_object(&dir.join("config.json"))?.unwrap_or_default();
        Ok(Self { dir: dir.to_path_buf(), tensors, by_name, files, config })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// The little-endian bytes of one of this folder's tensors.
    pub(crate) fn bytes(&self, tensor: &Tensor) -> &[u8] {
        self.files[tensor.file].bytes(&tensor.entry)
    }

    /// Says that the tensor will be read soon.
    pub(crate) fn will_need(&self, tensor: &Tensor) {
        self.files[tensor.file].will_need(&tensor.entry);
    }

    /// Says that the tensor was read for the last time.
    pub(crate) fn done_with(&self, tensor: &Tensor) {
        self.files[tensor.file].done_with(&tensor.entry);
    }

    /// Whether the output head is the embedding matrix: as `config.json` says, else because there is no head.
    pub(crate) fn ties_head(&self) -> bool {
        match self.config.get("tie_word_embeddings").and_then(Value::as_bool) {
            Some(tied) => tied,
            None => self.get(HEAD).is_none() && self.get(EMBEDDINGS).is_some(),
        }
    }

    /// Number of layers: one more than the largest layer index in a tensor's name.
    pub(crate) fn layers(&self) -> usize {
        self.tensors
            .iter()
            .filter_map(|tensor| layer_of(&tensor.name))
            .max()
            .map_or(0, |last| last.saturating_add(1))
    }
}

/// The layer a tensor belongs to: the first part of its name that is a number.
pub(crate) fn layer_of(name: &str) -> Option<usize> {
    name.split('.').find_map(|part| part.parse().ok())
}
