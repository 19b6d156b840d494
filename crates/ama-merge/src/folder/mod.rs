//! Model folders in the Hugging Face layout, read tensor by tensor.

mod index;
mod mapped;

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Map, Value};

pub(crate) use self::index::{INDEX, SINGLE};
use self::mapped::MappedFile;
use crate::error::{MergeError, io};

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
    range: Range<usize>,
}

impl Tensor {
    /// Elements.
    pub(crate) fn len(&self) -> usize {
        // The format's reader checked that the product does not overflow and fits the bytes.
        self.shape.iter().product()
    }
}

/// An opened model folder. Weights stay on disk until [`Folder::bytes`] is read.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) dir: PathBuf,
    /// In the order in which they lie on disk.
    pub(crate) tensors: Vec<Tensor>,
    by_name: HashMap<String, usize>,
    files: Vec<MappedFile>,
    /// `config.json`; empty if there is none (bare weights can be merged, too).
    pub(crate) config: Map<String, Value>,
}

impl Folder {
    /// Opens and checks the weights files; see `MappedFile`.
    pub(crate) fn open(dir: &Path) -> Result<Self, MergeError> {
        let mut tensors = Vec::new();
        let mut files = Vec::new();
        for (file, entries) in index::open_files(dir)? {
            let number = files.len();
            tensors.extend(entries.into_iter().map(|(name, entry)| Tensor {
                name,
                dtype: entry.dtype,
                shape: entry.shape,
                file: number,
                range: entry.range,
            }));
            files.push(file);
        }
        // Empty tensors share a place; their names order them.
        tensors.sort_by(|a, b| (a.file, a.range.start, &a.name).cmp(&(b.file, b.range.start, &b.name)));
        let mut by_name = HashMap::with_capacity(tensors.len());
        for (i, tensor) in tensors.iter().enumerate() {
            if by_name.insert(tensor.name.clone(), i).is_some() {
                let path = files[tensor.file].path.clone();
                return Err(MergeError::DuplicateTensor { path, tensor: tensor.name.clone() });
            }
        }
        let config = read_config(&dir.join("config.json"))?;
        Ok(Self { dir: dir.to_path_buf(), tensors, by_name, files, config })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// The little-endian bytes of one of this folder's tensors.
    pub(crate) fn bytes(&self, tensor: &Tensor) -> &[u8] {
        self.files[tensor.file].bytes(&tensor.range)
    }

    /// Says that the tensor will be read soon.
    pub(crate) fn will_need(&self, tensor: &Tensor) {
        self.files[tensor.file].will_need(&tensor.range);
    }

    /// Says that the tensor was read for the last time.
    pub(crate) fn done_with(&self, tensor: &Tensor) {
        self.files[tensor.file].done_with(&tensor.range);
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

fn read_config(path: &Path) -> Result<Map<String, Value>, MergeError> {
    if !path.exists() {
        return Ok(Map::new());
    }
    let text = std::fs::read(path).map_err(io("read", path))?;
    match serde_json::from_slice(&text) {
        Ok(Value::Object(config)) => Ok(config),
        Ok(_) => Err(MergeError::NotAnObject { path: path.to_path_buf() }),
        Err(source) => Err(MergeError::Json { path: path.to_path_buf(), source }),
    }
}
