//! Whether a path is a model folder, before anything in it is read.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::error::{FolderError, io};
use crate::index::{INDEX, SINGLE};
use crate::not_a_model::NotAModel;

/// Folders are looked for so many levels below a path that is no model itself.
const DEPTH: usize = 3;
/// And in so many folders at most: a path may be somebody's whole disk.
const VISITED: usize = 2000;
/// Files of an adapter (PEFT).
const ADAPTER: [&str; 3] = ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"];
/// Files of the formats in which Meta and Mistral publish.
const ORIGINAL: [&str; 4] = ["consolidated.00.pth", "consolidated.safetensors", "params.json", "tekken.json"];

/// Refuses a path that is no folder, or one in which nothing of a model lies: neither configuration, nor weights, nor a
/// tokenizer, nor an adapter.
///
/// # Errors
/// [`FolderError::NotAModel`] with what it is instead, [`FolderError::Io`].
pub fn check_folder(path: &Path) -> Result<(), FolderError> {
    let found = match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            let known = ["config.json", SINGLE, INDEX, "tokenizer.json", "tokenizer_config.json", ADAPTER[0]];
            if known.iter().any(|name| path.join(name).exists()) {
                return Ok(());
            }
            instead(path)
        }
        Ok(_) => of_file(path),
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
            missing(path)
        }
        Err(error) => return Err(io("open", path)(error)),
    };
    Err(FolderError::NotAModel { path: path.to_path_buf(), found })
}

/// [`check_folder`]; also refuses adapters, and folders that have neither `config.json` nor weights.
///
/// # Errors
/// As [`check_folder`].
pub fn check_model(path: &Path) -> Result<(), FolderError> {
    check_folder(path)?;
    let found = if let Some(file) = ADAPTER.into_iter().find(|name| path.join(name).exists()) {
        let file = file.to_owned();
        if has_weights(path) {
            NotAModel::AdapterBesideWeights { file }
        } else {
            NotAModel::Adapter { file, base: base_of(path) }
        }
    } else if path.join("config.json").exists() || has_weights(path) {
        return Ok(());
    } else {
        instead(path)
    };
    Err(FolderError::NotAModel { path: path.to_path_buf(), found })
}

fn has_weights(dir: &Path) -> bool {
    dir.join(SINGLE).exists() || dir.join(INDEX).exists()
}

/// `base_model_name_or_path` of an adapter; a configuration that cannot be read does not say.
fn base_of(adapter: &Path) -> Option<String> {
    let config: serde_json::Value = serde_json::from_slice(&fs::read(adapter.join(ADAPTER[0])).ok()?).ok()?;
    let base = config.get("base_model_name_or_path")?.as_str()?;
    (!base.is_empty()).then(|| base.to_owned())
}

/// A path at which nothing is.
fn missing(path: &Path) -> NotAModel {
    let text = path.to_string_lossy();
    if let Ok(target) = fs::read_link(path) {
        return NotAModel::DanglingLink { target };
    }
    if text.starts_with('~') {
        return NotAModel::Tilde;
    }
    if text.contains("://") || text.starts_with("hf:") || text.starts_with("https:/") {
        return NotAModel::Url;
    }
    let name_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    match text.split_once('/') {
        // Where the first part is a folder here, the rest was mistyped.
        Some((owner, name)) if name_part(owner) && name_part(name) && !Path::new(owner).exists() => {
            NotAModel::HubName { name: text.into_owned() }
        }
        _ => NotAModel::Missing,
    }
}

/// A path at which a file is.
fn of_file(path: &Path) -> NotAModel {
    let mut start = [0u8; 4];
    let magic = File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok();
    match path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).as_deref() {
        Some("gguf") => NotAModel::Gguf { file: None },
        _ if magic && start == *b"GGUF" => NotAModel::Gguf { file: None },
        Some("safetensors") => NotAModel::WeightsFile,
        _ => NotAModel::File,
    }
}

/// What a folder is that is no model.
fn instead(dir: &Path) -> NotAModel {
    let snapshots = snapshots(dir);
    if !snapshots.is_empty() {
        return NotAModel::HubCache { snapshots };
    }
    let folders = models_inside(dir);
    if !folders.is_empty() {
        return NotAModel::ModelsInside { folders };
    }
    if let Some(file) = ORIGINAL.into_iter().find(|name| dir.join(name).exists()) {
        return NotAModel::OriginalFormat { file: file.to_owned() };
    }
    match names(dir).into_iter().find(|name| name.to_ascii_lowercase().ends_with(".gguf")) {
        Some(file) => NotAModel::Gguf { file: Some(file) },
        None => NotAModel::Nothing,
    }
}

/// Snapshots of a model's folder in the Hub cache (`models--ORGANISATION--NAME`): the one that `refs/main` names, else all.
fn snapshots(dir: &Path) -> Vec<PathBuf> {
    let inside = dir.join("snapshots");
    if let Ok(commit) = fs::read_to_string(dir.join("refs/main")) {
        let main = inside.join(commit.trim());
        if !commit.trim().is_empty() && main.is_dir() {
            return vec![main];
        }
    }
    names(&inside).into_iter().map(|name| inside.join(name)).filter(|folder| folder.is_dir()).collect()
}

/// Folders below with a configuration and weights, in alphabetical order level by level.
pub(crate) fn models_inside(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut level = vec![dir.to_path_buf()];
    let mut visited = 0;
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for folder in &level {
            visited += 1;
            if visited > VISITED {
                return found;
            }
            let visible = names(folder).into_iter().filter(|name| !name.starts_with('.'));
            for inside in visible.map(|name| folder.join(name)).filter(|inside| inside.is_dir()) {
                if inside.join("config.json").exists() && has_weights(&inside) {
                    found.push(inside);
                } else {
                    next.push(inside);
                }
            }
        }
        level = next;
    }
    found
}

/// Names in a folder, sorted; none if it cannot be listed.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
