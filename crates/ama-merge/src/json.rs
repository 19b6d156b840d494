//! JSON files of a model folder.

use std::path::Path;

use ama_safetensors::refuse_lfs_pointer;
use serde_json::{Map, Value};

use crate::error::{MergeError, io};

/// The object in a file; `None` if there is no such file.
pub(crate) fn read_object(path: &Path) -> Result<Option<Map<String, Value>>, MergeError> {
    match read(path)? {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(MergeError::NotAnObject { path: path.to_path_buf() }),
    }
}

/// The JSON in a file; `None` if there is no such file.
fn read(path: &Path) -> Result<Option<Value>, MergeError> {
    match read_bytes(path)? {
        None => Ok(None),
        Some(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| MergeError::Json { path: path.to_path_buf(), source }),
    }
}

/// The bytes of a file; `None` if there is no such file.
pub(crate) fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, MergeError> {
    if !path.is_file() {
        return Ok(None);
    }
    refuse_lfs_pointer(path)?;
    std::fs::read(path).map(Some).map_err(io("read", path))
}
