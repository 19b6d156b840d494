//! Loading a Hugging Face folder: configuration, then every tensor, checked before anything is allocated.

use std::collections::HashSet;
use std::path::Path;

use ama_safetensors::{Entry, WeightsFile, check_model, open_weights};

use super::dtype::{SaveDtype, first_non_finite, first_non_finite_in, position, widen};
use super::names::explain_missing;
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
    files: Vec<WeightsFile>,
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
/// embeddings an `lm_head.weight` equal to the embedding is ignored too. Every weight is looked at: NaN and infinity
/// are refused here, where file and tensor can be named, rather than when a loss comes out as NaN.
///
/// Other files of the folder (tokenizer, chat template) are not looked at.
///
/// # Errors
/// Everything that [`LlamaConfig::from_json`] refuses; what is no model folder ([`ModelError::Folder`]); missing, unknown,
/// repeated or misshapen tensors; element types other than the three; weights that are not finite; truncated or
/// hostile files; pickled weights. Every message names file and tensor.
pub fn load(dir: &Path) -> Result<ModelFolder, ModelError> {
    let open = OpenFolder::open(dir)?;
    let mut dtypes = open.tensors.iter().map(|t| t.dtype);
    let first = dtypes.next().unwrap_or(SaveDtype::F32);
    let dtype = if dtypes.all(|d| d == first) { first } else { SaveDtype::F32 };
    let vec = |t: &Placed| Ok((t.name.clone(), t.shape.clone(), open.values(t)?));
    let vecs = open.tensors.iter().map(vec).collect::<Result<_, ModelError>>()?;
    Ok(ModelFolder { params: Params::from_checked(vecs), dtype, config: open.config })
}

impl OpenFolder {
    pub(super) fn open(dir: &Path) -> Result<Self, ModelError> {
        check_model(dir)?;
        let config = LlamaConfig::from_json(&dir.join("config.json"))?;
        let files = open_weights(dir)?;
        let mut tensors = Vec::new();
        for (name, shape) in expected_parameters(&config) {
            let found = files.iter().enumerate().find_map(|(i, f)| f.get(&name).map(|e| (i, e)));
            let Some((file, entry)) = found else {
                return Err(explain_missing(dir, &files, name, shape));
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

    /// [`Self::bytes`] of an f32 tensor, all of whose values are finite.
    pub(super) fn sound_bytes(&self, tensor: &Placed) -> Result<&[u8], ModelError> {
        let bytes = self.bytes(tensor);
        match first_non_finite_in(bytes) {
            None => Ok(bytes),
            Some(at) => {
                let value = widen(SaveDtype::F32, bytes).get(at).copied().unwrap_or(f32::NAN);
                Err(self.non_finite(tensor, at, value))
            }
        }
    }

    /// The values of a tensor as f32, all of them finite.
    pub(super) fn values(&self, tensor: &Placed) -> Result<Vec<f32>, ModelError> {
        let values = widen(tensor.dtype, self.bytes(tensor));
        // One pass over memory, about a twentieth of the time that widening and hashing take.
        match first_non_finite(&values) {
            None => Ok(values),
            Some(at) => Err(self.non_finite(tensor, at, values[at])),
        }
    }

    fn non_finite(&self, tensor: &Placed, at: usize, value: f32) -> ModelError {
        ModelError::NonFiniteWeight {
            path: self.files[tensor.file].path().to_path_buf(),
            tensor: tensor.name.clone(),
            index: position(&tensor.shape, at),
            value,
        }
    }

    /// Tensors that the configuration does not call for: known leftovers pass, anything else is refused.
    fn check_the_rest(&self) -> Result<(), ModelError> {
        let expected: HashSet<&str> = self.tensors.iter().map(|t| t.name.as_str()).collect();
        for file in &self.files {
            for (name, entry) in file.entries() {
                if expected.contains(name) {
                    continue;
                }
                if name == "lm_head.weight" && self.config.tie_word_embeddings {
                    self.check_tied_head(file, entry)?;
                    continue;
                }
                return Err(ModelError::UnknownTensor {
                    path: file.path().to_path_buf(),
                    tensor: name.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// A head in the file of a tied model must be the embedding once more.
    fn check_tied_head(&self, file: &WeightsFile, head: &Entry) -> Result<(), ModelError> {
        let embedding = &self.tensors[0]; // first in canonical order
        let dtype = check(file, "lm_head.weight", head, &embedding.shape)?;
        let equal = if dtype == embedding.dtype {
            file.bytes(head) == self.bytes(embedding)
        } else {
            widen(dtype, file.bytes(head)) == self.values(embedding)?
        };
        if equal { Ok(()) } else { Err(ModelError::TiedHeadDiffers { path: file.path().to_path_buf() }) }
    }
}

/// Shape and element type of one tensor against what the configuration says.
fn check(file: &WeightsFile, name: &str, entry: &Entry, want: &[usize]) -> Result<SaveDtype, ModelError> {
    if entry.shape != want {
        return Err(ModelError::TensorShape {
            path: file.path().to_path_buf(),
            tensor: name.to_owned(),
            want: want.to_vec(),
            got: entry.shape.clone(),
        });
    }
    SaveDtype::from_safetensors(entry.dtype).ok_or_else(|| ModelError::TensorDtype {
        path: file.path().to_path_buf(),
        tensor: name.to_owned(),
        got: format!("{:?}", entry.dtype),
    })
}
