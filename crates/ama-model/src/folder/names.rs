//! Why a tensor is not found: names with a prefix too many or too few, or a head that is not there.

use std::path::Path;

use ama_safetensors::WeightsFile;

use crate::error::ModelError;

/// The refusal for an expected tensor that no file holds.
pub(super) fn explain_missing(
    dir: &Path,
    files: &[WeightsFile],
    tensor: String,
    shape: Vec<usize>,
) -> ModelError {
    for file in files {
        let path = || file.path().to_path_buf();
        for (found, _) in file.entries() {
            // A wrapper's name stands before the whole name: `_orig_mod.model.embed_tokens.weight`.
            if let Some(prefix) = found.strip_suffix(tensor.as_str()).filter(|prefix| prefix.ends_with('.')) {
                return ModelError::PrefixTooMany {
                    path: path(),
                    prefix: prefix.to_owned(),
                    found: found.to_owned(),
                };
            }
            if let Some(prefix) = tensor.strip_suffix(found).filter(|prefix| prefix.ends_with('.')) {
                return ModelError::PrefixTooFew {
                    path: path(),
                    prefix: prefix.to_owned(),
                    found: found.to_owned(),
                };
            }
        }
    }
    let path = if let [only] = files { only.path().to_path_buf() } else { dir.to_path_buf() };
    if tensor == "lm_head.weight" {
        return ModelError::NoHead { path };
    }
    ModelError::MissingTensor { path, tensor, shape }
}
