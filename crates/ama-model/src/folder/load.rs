//! Loading a Hugging Face folder: configuration, then every tensor, checked before anything is allocated.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::dtype::{SaveDtype, widen};
use super::index::open_weights;
use super::mapped::{Entry, MappedFile};
use crate::config::LlamaConfig;
use crate::error::ModelError;
use crate::params::{Params, expected_parameters};

/// What a model folder holds.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// The checked `config.json`.
    pub config: LlamaConfig,
    /// The weights, widened to f32.
    pub params: Params,
    /// The narrowest type that holds all weights exactly: that of the file, or f32 if the file mixes types.
    pub dtype: SaveDtype,
}

/// A folder whose every tensor is known to be there with the right shape and a readable type.
pub(super) struct OpenFolder {
    pub(super) config: LlamaConfig,
    pub(super) tensors: Vec<Placed>,
    files: Vec<MappedFile>,
}

/// One expected parameter and where it lies.
pub(super) struct Placed {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: SaveDtype,
    file: usize,
    entry: Entry,
}

/// Loads a Hugging Face folder.
///
/// Weights come from `model.safetensors` or from the shards of `model.safetensors.index.json`, as f32, f16 or
/// bf16 (also mixed), and are widened to f32. Rotary tables that old exports carry are ignored; with tied
/// embeddings an `lm_head.weight` equal to the embedding is ignored too.
///
/// Other files of the folder (tokenizer, chat template) are not looked at.
///
/// # Errors
/// Everything that [`LlamaConfig::from_json`] refuses; missing, unknown, repeated or misshapen tensors;
/// element types other than the three; truncated or hostile files; pickled weights. Every message names file
/// and tensor.
pub fn load(dir: &Path) -> Result<ModelFolder, ModelError> {
    let open = OpenFolder::open(dir)?;
    let mut dtypes = open.tensors.iter().map(|t| t.dtype);
    let first = dtypes.next().unwrap_or(SaveDtype::F32);
    let dtype = if dtypes.all(|d| d == first) { first } else { SaveDtype::F32 };
    let vecs = open.tensors.iter().map(|t| (t.name.clone(), t.shape.clone(), open.values(t))).collect();
    Ok(ModelFolder { params: Params::from_checked(vecs), dtype, config: open.config })
}

impl OpenFolder {
    pub(super) fn open(dir: &Path) -> Result<Self, ModelError> {
        let config = LlamaConfig::from_json(&dir.join("config.json"))?;
        let files = open_weights(dir)?;
        if let Some((first, again, tensor)) = across_files(&files) {
            let (first, path) = (files[first].path.clone(), files[again].path.clone());
            return Err(ModelError::DuplicateTensor { path, tensor, first });
        }
        let mut tensors = Vec::new();
        for (name, shape) in expected_parameters(&config) {
            let found = files.iter().enumerate().find_map(|(i, f)| f.entries.get(&name).map(|e| (i, e)));
            let Some((file, entry)) = found else {
                let path = if let [only] = files.as_slice() { only.path.clone() } else { dir.to_path_buf() };
                return Err(ModelError::MissingTensor { path, tensor: name, shape });
            };
            let dtype = check(&files[file], &name, entry, &shape)?;
            tensors.push(Placed { name, shape, dtype, file, entry: entry.clone() });
        }
        let open = Self { config, tensors, files };
        open.check_the_rest()?;
        Ok(open)
    }

    /// The bytes of a tensor as they lie in the file.
    pub(super) fn bytes(&self, tensor: &Placed) -> &[u8] {
        self.files[tensor.file].bytes(&tensor.entry)
    }

    /// The values of a tensor as f32.
    pub(super) fn values(&self, tensor: &Placed) -> Vec<f32> {
        widen(tensor.dtype, self.bytes(tensor))
    }

    /// Tensors that the configuration does not call for: known leftovers pass, anything else is refused.
    fn check_the_rest(&self) -> Result<(), ModelError> {
        let expected: HashSet<&str> = self.tensors.iter().map(|t| t.name.as_str()).collect();
        for file in &self.files {
            let mut names: Vec<&String> = file.entries.keys().collect();
            names.sort();
            for name in names {
                if is_buffer(name) || expected.contains(name.as_str()) {
                    continue;
                }
                if name == "lm_head.weight" && self.config.tie_word_embeddings {
                    self.check_tied_head(file, &file.entries[name])?;
                    continue;
                }
                return Err(ModelError::UnknownTensor { path: file.path.clone(), tensor: name.clone() });
            }
        }
        Ok(())
    }

    /// A head in the file of a tied model must be the embedding once more.
    fn check_tied_head(&self, file: &MappedFile, head: &Entry) -> Result<(), ModelError> {
        let embedding = &self.tensors[0]; // first in canonical order
        let dtype = check(file, "lm_head.weight", head, &embedding.shape)?;
        let equal = if dtype == embedding.dtype {
            file.bytes(head) == self.bytes(embedding)
        } else {
            widen(dtype, file.bytes(head)) == self.values(embedding)
        };
        if equal { Ok(()) } else { Err(ModelError::TiedHeadDiffers { path: file.path.clone() }) }
    }
}

/// Shape and element type of one tensor against what the configuration says.
fn check(file: &MappedFile, name: &str, entry: &Entry, want: &[usize]) -> Result<SaveDtype, ModelError> {
    if entry.shape != want {
        return Err(ModelError::TensorShape {
            path: file.path.clone(),
            tensor: name.to_owned(),
            want: want.to_vec(),
            got: entry.shape.clone(),
        });
    }
    SaveDtype::from_safetensors(entry.dtype).ok_or_else(|| ModelError::TensorDtype {
        path: file.path.clone(),
        tensor: name.to_owned(),
        got: format!("{:?}", entry.dtype),
    })
}

/// Tables that some exports store beside the parameters; they follow from the configuration.
fn is_buffer(name: &str) -> bool {
    ["rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached"]
        .iter()
        .any(|b| name.ends_with(b))
}

/// A parameter that two files hold: index of the first, of the second, and its name.
fn across_files(files: &[MappedFile]) -> Option<(usize, usize, String)> {
    let mut seen = HashMap::new();
    for (i, file) in files.iter().enumerate() {
        let mut names: Vec<&String> = file.entries.keys().collect();
        names.sort();
        for name in names {
            if let Some(first) = seen.insert(name, i) {
                return Some((first, i, name.clone()));
            }
        }
    }
    None
}
