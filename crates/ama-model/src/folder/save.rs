//! Saving a Hugging Face folder that `transformers` loads unchanged: all of it appears at once, or nothing
//! does.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use ama_safetensors::{FolderError, INDEX, SINGLE};
use safetensors::{Dtype, SafeTensorError, View, serialize_to_file};
use serde_json::json;

use super::dtype::{SaveDtype, first_non_finite, first_overflow, narrow, position};
use crate::access::values;
use crate::config::LlamaConfig;
use crate::error::ModelError;
use crate::params::{Parameter, Params, expected_parameters};

/// Weights beyond this many bytes go to several files, as in `transformers`: 5 GB.
pub const DEFAULT_SHARD_BYTES: u64 = 5_000_000_000;

/// Files of a model folder that are neither configuration nor weights.
const EXTRAS: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
];

/// How a model is saved.
#[derive(Debug, Clone, Copy)]
pub struct SaveOptions<'a> {
    /// Element type of the weights.
    pub dtype: SaveDtype,
    /// Largest sum of tensor bytes in one weights file. A single larger tensor gets a file of its own.
    pub max_shard_bytes: u64,
    /// Folder to copy tokenizer, chat template and generation settings from, those of them that exist.
    pub extras_from: Option<&'a Path>,
}

/// [`save_with`] at the usual shard limit, [`DEFAULT_SHARD_BYTES`].
///
/// # Errors
/// As [`save_with`].
pub fn save(
    config: &LlamaConfig,
    params: &Params,
    dtype: SaveDtype,
    dir: &Path,
    extras_from: Option<&Path>,
) -> Result<(), ModelError> {
    save_with(config, params, &SaveOptions { dtype, max_shard_bytes: DEFAULT_SHARD_BYTES, extras_from }, dir)
}

/// Writes a model folder: `config.json`, weights (single or sharded with an index), and copied extras.
///
/// Everything is written into a hidden folder beside `dir`, synced, and renamed, so that `dir` never holds
/// half a model; after an error nothing is left behind. One tensor at a time is converted, so memory grows by
/// the largest tensor only. Missing parents of `dir` are created.
///
/// # Errors
/// [`ModelError::TargetExists`] if `dir` exists and is not an empty folder, [`ModelError::SaveNonFinite`] for a weight
/// that is NaN or infinite, [`ModelError::SaveOverflow`] if a finite one would become infinite in f16 or bf16,
/// [`ModelError::ConfigChanged`], a parameter that does not fit the configuration, [`ModelError::Io`] (a full
/// disk, for one).
pub fn save_with(
    config: &LlamaConfig,
    params: &Params,
    options: &SaveOptions<'_>,
    dir: &Path,
) -> Result<(), ModelError> {
    check_params(config, params, options.dtype)?;
    let config_json = config.to_json(options.dtype.name())?;
    let staging = Staging::beside(dir)?;

    write_json(&staging.path.join("config.json"), &config_json)?;
    write_weights(&staging.path, params, options)?;
    if let Some(from) = options.extras_from {
        copy_extras(from, &staging.path)?;
    }
    staging.publish(dir)
}

/// The registry can be edited through `iter_mut`; what does not fit the configuration is not written.
fn check_params(config: &LlamaConfig, params: &Params, dtype: SaveDtype) -> Result<(), ModelError> {
    let expected = expected_parameters(config);
    if let Some(extra) = params.as_slice().get(expected.len()) {
        return Err(ModelError::ParameterUnknown { name: extra.name.clone() });
    }
    let mut list = params.iter();
    for (name, shape) in expected {
        let Some(p) = list.next().filter(|p| p.name == name) else {
            return Err(ModelError::ParameterMissing { name, shape });
        };
        let (want, got) = (shape.iter().product(), values(&p.tensor).len());
        if p.shape != shape || want != got {
            return Err(ModelError::ParameterLength { name, shape, want, got });
        }
        if let Some(at) = first_non_finite(values(&p.tensor)) {
            let (index, value) = (position(&shape, at), values(&p.tensor)[at]);
            return Err(ModelError::SaveNonFinite { tensor: name, index, value });
        }
        if let Some(value) = first_overflow(dtype, values(&p.tensor)) {
            return Err(ModelError::SaveOverflow { tensor: name, value, dtype: dtype.name() });
        }
    }
    Ok(())
}

/// A parameter as the format's writer wants it; converted when asked for, dropped when written.
struct OnDisk<'a> {
    parameter: &'a Parameter,
    dtype: SaveDtype,
}

impl View for OnDisk<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype.to_safetensors()
    }

    fn shape(&self) -> &[usize] {
        &self.parameter.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(narrow(self.dtype, values(&self.parameter.tensor)))
    }

    fn data_len(&self) -> usize {
        values(&self.parameter.tensor).len() * self.dtype.bytes()
    }
}

fn write_weights(dir: &Path, params: &Params, options: &SaveOptions<'_>) -> Result<(), ModelError> {
    let shards = split(params, options);
    if let [only] = shards.as_slice() {
        return write_file(dir, SINGLE, only, options.dtype);
    }
    let mut weight_map = serde_json::Map::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
        write_file(dir, &name, shard, options.dtype)?;
        weight_map.extend(shard.iter().map(|p| (p.name.clone(), json!(name))));
    }
    let total = params.total();
    let metadata = json!({"total_parameters": total, "total_size": total * options.dtype.bytes()});
    write_json(&dir.join(INDEX), &json!({"metadata": metadata, "weight_map": weight_map}))
}

/// Parameters in canonical order, cut whenever the next one would pass the limit.
fn split<'a>(params: &'a Params, options: &SaveOptions<'_>) -> Vec<Vec<&'a Parameter>> {
    let mut shards: Vec<Vec<&Parameter>> = Vec::new();
    let mut filled = 0u64;
    for p in params {
        let bytes = (p.shape.iter().product::<usize>() * options.dtype.bytes()) as u64;
        match shards.last_mut() {
            Some(last) if filled + bytes <= options.max_shard_bytes => last.push(p),
            _ => {
                shards.push(vec![p]);
                filled = 0;
            }
        }
        filled += bytes;
    }
    shards
}

fn write_file(dir: &Path, name: &str, shard: &[&Parameter], dtype: SaveDtype) -> Result<(), ModelError> {
    let path = dir.join(name);
    let tensors = shard.iter().map(|parameter| (parameter.name.as_str(), OnDisk { parameter, dtype }));
    // `transformers` refuses files without this entry.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize_to_file(tensors, Some(metadata), &path).map_err(|source| match source {
        SafeTensorError::IoError(source) => io("write", &path, source),
        source => FolderError::SafeTensors { path: path.clone(), source }.into(),
    })?;
    // The format's writer goes through a private temporary file; the weights get the mode that config.json
    // got.
    let mode = fs::metadata(dir.join("config.json")).map_err(|e| io("read", dir, e))?.permissions();
    fs::set_permissions(&path, mode).map_err(|e| io("set the mode of", &path, e))?;
    sync(&path)
}

fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), ModelError> {
    let text = format!("{value:#}\n");
    let mut file = File::create(path).map_err(|e| io("create", path, e))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| io("write", path, e))
}

fn copy_extras(from: &Path, to: &Path) -> Result<(), ModelError> {
    if !from.is_dir() {
        let source = std::io::Error::from(std::io::ErrorKind::NotADirectory);
        return Err(io("copy tokenizer files from", from, source));
    }
    for name in EXTRAS {
        let (source, target) = (from.join(name), to.join(name));
        if source.exists() {
            fs::copy(&source, &target).map_err(|e| io("copy", &source, e))?;
            sync(&target)?;
        }
    }
    Ok(())
}

fn sync(path: &Path) -> Result<(), ModelError> {
    File::open(path).and_then(|f| f.sync_all()).map_err(|e| io("sync", path, e))
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> ModelError {
    ModelError::Io { action, path: path.to_path_buf(), source }
}

/// A hidden folder beside the target, removed again unless it is published.
struct Staging {
    path: PathBuf,
    parent: PathBuf,
    published: bool,
}

impl Staging {
    fn beside(dir: &Path) -> Result<Self, ModelError> {
        let bad = || ModelError::BadTarget { path: dir.to_path_buf() };
        let name = dir.file_name().ok_or_else(bad)?.to_string_lossy().into_owned();
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        if fs::symlink_metadata(dir).is_ok() && !is_empty_dir(dir) {
            return Err(ModelError::TargetExists { path: dir.to_path_buf() });
        }
        fs::create_dir_all(&parent).map_err(|e| io("create", &parent, e))?;
        // Process id and a counter: two threads or processes never share a staging folder. One left by a
        // killed process of the same id is skipped, not reused.
        for attempt in 0u32.. {
            let path = parent.join(format!(".{name}.writing-{}-{attempt}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path, parent, published: false }),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(io("create", &path, e)),
            }
        }
        Err(bad())
    }

    /// Makes the staged folder the target: sync, rename, sync the parent.
    fn publish(mut self, dir: &Path) -> Result<(), ModelError> {
        sync(&self.path)?;
        if is_empty_dir(dir) {
            fs::remove_dir(dir).map_err(|e| io("replace the empty folder", dir, e))?;
        }
        fs::rename(&self.path, dir).map_err(|e| match e.kind() {
            std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::AlreadyExists => {
                ModelError::TargetExists { path: dir.to_path_buf() }
            }
            _ => io("rename the finished folder to", dir, e),
        })?;
        self.published = true;
        sync(&self.parent)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // Best effort: the error that brought us here is the one to report.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn is_empty_dir(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}
