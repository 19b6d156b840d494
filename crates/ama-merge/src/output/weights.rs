//! Weights files whose tensors are written piece by piece, in any order, from any thread: the header is known before the
//! first value is, so nothing has to be held.

use std::fs::File;
use std::path::{Path, PathBuf};

use ama_safetensors::{INDEX, SINGLE};
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::error::{MergeError, io};

/// Name, type and shape of a tensor to be written.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: u64,
}

/// The weights files of a folder.
#[derive(Debug)]
pub(crate) struct WeightsWriter {
    files: Vec<(PathBuf, File)>,
    /// File and first byte of each tensor.
    places: Vec<(usize, u64)>,
    /// The index file, if there is more than one weights file.
    index: Option<Value>,
}

impl WeightsWriter {
    /// Makes the files: one, or shards of at most `max_shard_bytes` of tensors (a larger tensor has a file of its own).
    pub(crate) fn create(dir: &Path, tensors: &[Shape], max_shard_bytes: u64) -> Result<Self, MergeError> {
        let shards = split(tensors, max_shard_bytes);
        let mut files = Vec::with_capacity(shards.len());
        let mut places = vec![(0, 0); tensors.len()];
        let mut weight_map = Map::new();
        for (number, shard) in shards.iter().enumerate() {
            let name = match shards.len() {
                1 => SINGLE.to_owned(),
                count => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
            };
            let (header, offsets, end) = header(tensors, shard);
            let path = dir.join(&name);
            let file = File::create(&path).map_err(io("create", &path))?;
            let written = file.set_len(header.len() as u64 + end).and_then(|()| write_at(&file, 0, &header));
            written.map_err(io("write", &path))?;
            for (&tensor, offset) in shard.iter().zip(offsets) {
                places[tensor] = (number, header.len() as u64 + offset);
                weight_map.insert(tensors[tensor].name.clone(), json!(name));
            }
            files.push((path, file));
        }
        let total: u64 = tensors.iter().map(|tensor| tensor.bytes).sum();
        let index =
            (shards.len() > 1).then(|| json!({"metadata": {"total_size": total}, "weight_map": weight_map}));
        Ok(Self { files, places, index })
    }

    /// Writes bytes of tensor number `tensor`, `offset` bytes from its start.
    pub(crate) fn write(&self, tensor: usize, offset: u64, bytes: &[u8]) -> Result<(), MergeError> {
        let (file, start) = self.places[tensor];
        let (path, file) = &self.files[file];
        write_at(file, start + offset, bytes).map_err(io("write", path))
    }

    /// Syncs the files; returns the index to be written beside them, if there is one.
    pub(crate) fn finish(self) -> Result<Option<(&'static str, Value)>, MergeError> {
        for (path, file) in &self.files {
            file.sync_all().map_err(io("sync", path))?;
        }
        Ok(self.index.map(|index| (INDEX, index)))
    }
}

/// Numbers of the tensors of each shard, in order, cut whenever the next one would pass the limit.
fn split(tensors: &[Shape], max_shard_bytes: u64) -> Vec<Vec<usize>> {
    let mut shards: Vec<Vec<usize>> = Vec::new();
    let mut filled = 0u64;
    for (number, tensor) in tensors.iter().enumerate() {
        match shards.last_mut() {
            Some(last) if filled.saturating_add(tensor.bytes) <= max_shard_bytes => last.push(number),
            _ => {
                shards.push(vec![number]);
                filled = 0;
            }
        }
        filled = filled.saturating_add(tensor.bytes);
    }
    // Wider elements first, so that every tensor is aligned to its element.
    for shard in &mut shards {
        shard.sort_by_key(|&number| std::cmp::Reverse(tensors[number].dtype.bitsize()));
    }
    shards
}

/// Length and JSON of the header, padded to eight bytes; offset of each tensor of the shard; bytes of all.
fn header(tensors: &[Shape], shard: &[usize]) -> (Vec<u8>, Vec<u64>, u64) {
    let mut entries = Map::new();
    // `transformers` refuses files without this entry.
    entries.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut offsets = Vec::with_capacity(shard.len());
    let mut end = 0u64;
    for &number in shard {
        let tensor = &tensors[number];
        offsets.push(end);
        let next = end + tensor.bytes;
        entries.insert(
            tensor.name.clone(),
            json!({"dtype": tensor.dtype.to_string(), "shape": tensor.shape, "data_offsets": [end, next]}),
        );
        end = next;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    (header, offsets, end)
}

#[cfg(unix)]
fn write_at(file: &File, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Elsewhere one thread at a time moves the file's only position.
#[cfg(not(unix))]
fn write_at(mut file: &File, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::{Seek as _, SeekFrom, Write as _};
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}
