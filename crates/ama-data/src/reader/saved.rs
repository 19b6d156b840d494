//! Folders that `datasets` wrote with `save_to_disk`: what they say about their own files.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::DataError;
use crate::reader::format::refuse_pointer;
use crate::reader::json;
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
    /// The split that the rows were, where they were one.
    #[serde(rename = "_split")]
    split: Option<String>,
}

/// What a saved `Dataset` says.
pub(crate) struct Saved {
    pub(crate) files: Vec<PathBuf>,
    /// The split of which it was saved, if it was one.
    pub(crate) split: Option<String>,
}

#[derive(Deserialize)]
struct DataFile {
    filename: String,
}

/// The splits of a saved `DatasetDict`, each a folder; `None` if the folder is none.
///
/// # Errors
/// A file that says it is one and cannot be read, or that lists no split.
pub(crate) fn splits(folder: &Path) -> Result<Option<Vec<String>>, DataError> {
    let path = folder.join("dataset_dict.json");
    let Some(text) = read(&path)? else { return Ok(None) };
    let dict: Dict = parse(&path, &text)?;
    if dict.splits.is_empty() {
        return Err(damaged(&path, "it lists no split"));
    }
    match dict.splits.iter().find(|name| Path::new(name).file_name() != Some(name.as_ref())) {
        Some(name) => Err(damaged(&path, &format!("it lists {name:?}, which is no folder beside it"))),
        None => Ok(Some(dict.splits)),
    }
}

/// The refusal of a `DatasetDict` without the folder of a split that it lists.
pub(crate) fn no_folder(folder: &Path, split: &str) -> DataError {
    let message = format!("it lists the split `{split}`, whose folder is missing");
    damaged(&folder.join("dataset_dict.json"), &message)
}

/// The files of a saved `Dataset`, in their order; `None` if the folder is none.
///
/// # Errors
/// As [`splits`]; a file that is listed and missing.
pub(crate) fn files(folder: &Path) -> Result<Option<Saved>, DataError> {
    let path = folder.join("state.json");
    let Some(text) = read(&path)? else { return Ok(None) };
    // A `state.json` without that key is another program's.
    if !text.contains("\"_data_files\"") {
        return Ok(None);
    }
    let state: State = parse(&path, &text)?;
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
    Ok(Some(Saved { files, split: state.split }))
}

fn read(path: &Path) -> Result<Option<String>, DataError> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            refuse_pointer(path)?;
            Ok(Some(text))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DataError::io(path, "read")(error)),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, DataError> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        damaged(path, &format!("line {line}, column {column}: {}", json::without_place(&error)))
    })
}

fn damaged(path: &Path, message: &str) -> DataError {
    SelectError::SavedDataset { path: path.to_path_buf(), message: message.to_owned() }.into()
}
