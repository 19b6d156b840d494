//! Folders that `datasets` wrote with `save_to_disk`: what they say about their own files.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::DataError;
use crate::reader::select_error::SelectError;

/// `dataset_dict.json`: a folder for each split.
#[derive(Deserialize)]
struct Dict {
    splits: Vec<String>,
}

/// `state.json`: the files of one data set; others beside them are caches.
#[derive(Deserialize)]
struct State {
    #[serde(rename = "_data_files")]
    data_files: Vec<DataFile>,
    /// Older versions kept a selection of rows apart from the rows.
    #[serde(rename = "_indices_data_files", default)]
    indices: Option<Vec<DataFile>>,
}

#[derive(Deserialize)]
struct DataFile {
    filename: String,
}

/// The splits of a saved `DatasetDict`; `None` if the folder is none.
///
/// # Errors
/// A file that says it is one and cannot be read.
pub(crate) fn splits(folder: &Path) -> Result<Option<Vec<String>>, DataError> {
    let path = folder.join("dataset_dict.json");
    let Some(text) = read(&path)? else { return Ok(None) };
    let dict: Dict = serde_json::from_str(&text).map_err(|error| damaged(&path, &error.to_string()))?;
    Ok(Some(dict.splits))
}

/// The files of a saved `Dataset`, in their order; `None` if the folder is none.
///
/// # Errors
/// As [`splits`]; a file that is listed and missing.
pub(crate) fn files(folder: &Path) -> Result<Option<Vec<PathBuf>>, DataError> {
    let path = folder.join("state.json");
    let Some(text) = read(&path)? else { return Ok(None) };
    // A `state.json` without that key is another program's.
    if !text.contains("\"_data_files\"") {
        return Ok(None);
    }
    let state: State = serde_json::from_str(&text).map_err(|error| damaged(&path, &error.to_string()))?;
    if state.indices.is_some_and(|indices| !indices.is_empty()) {
        return Err(damaged(&path, "it selects rows by `_indices_data_files`, which is not read"));
    }
    if state.data_files.is_empty() {
        return Err(damaged(&path, "it lists no file"));
    }
    let mut files = Vec::new();
    for DataFile { filename } in state.data_files {
        if Path::new(&filename).file_name() != Some(filename.as_ref()) {
            return Err(damaged(&path, &format!("it lists {filename:?}, which is no file of this folder")));
        }
        let file = folder.join(&filename);
        if !file.is_file() {
            return Err(damaged(&path, &format!("it lists {filename:?}, which is not there")));
        }
        files.push(file);
    }
    Ok(Some(files))
}

fn read(path: &Path) -> Result<Option<String>, DataError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DataError::io(path, "read")(error)),
    }
}

fn damaged(path: &Path, message: &str) -> DataError {
    SelectError::SavedDataset { path: path.to_path_buf(), message: message.to_owned() }.into()
}
