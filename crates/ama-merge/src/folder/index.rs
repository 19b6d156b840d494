//! Which files hold the weights of a folder: one file, or the shards of an index.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Component, Path};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::mapped::{Entry, MappedFile};
use crate::error::{MergeError, io};

/// Weights in one file.
pub(crate) const SINGLE: &str = "model.safetensors";
/// Which of several files holds which tensor.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// Weights of formats that are not read.
const PICKLES: [&str; 3] = ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"];

/// A weights file and its tensors, in no order.
type Opened = (MappedFile, HashMap<String, Entry>);

/// Every weights file of the folder, in the order of the file names.
pub(super) fn open_files(dir: &Path) -> Result<Vec<Opened>, MergeError> {
    let single = dir.join(SINGLE);
    if single.exists() {
        return Ok(vec![MappedFile::open(&single)?]);
    }
    let index = dir.join(INDEX);
    if index.exists() {
        return open_shards(dir, &index);
    }
    let found = PICKLES.into_iter().find(|name| dir.join(name).exists()).map(str::to_owned);
    Err(MergeError::NoWeights { dir: dir.to_path_buf(), found })
}

fn open_shards(dir: &Path, index: &Path) -> Result<Vec<Opened>, MergeError> {
    let text = std::fs::read(index).map_err(io("read", index))?;
    let parsed: IndexFile = serde_json::from_slice(&text)
        .map_err(|source| MergeError::Json { path: index.to_path_buf(), source })?;
    let problem = |problem| MergeError::Index { path: index.to_path_buf(), problem };
    if let Some(tensor) = parsed.weight_map.repeated {
        return Err(MergeError::DuplicateTensor { path: index.to_path_buf(), tensor });
    }
    let mut shards: BTreeMap<String, HashSet<String>> = BTreeMap::new();
    for (tensor, shard) in parsed.weight_map.entries {
        let mut parts = Path::new(&shard).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain || shard.contains(['/', '\\']) {
            return Err(problem(format!(
                "tensor {tensor} lies in `{shard}`; want the name of a file in the folder"
            )));
        }
        shards.entry(shard).or_default().insert(tensor);
    }
    if shards.is_empty() {
        return Err(problem("weight_map is empty".to_owned()));
    }
    let mut files = Vec::with_capacity(shards.len());
    for (shard, listed) in shards {
        let path = dir.join(&shard);
        if !path.exists() {
            let tensor = listed.iter().min().cloned().unwrap_or_default();
            return Err(problem(format!("shard {shard} with tensor {tensor} is missing")));
        }
        let (file, entries) = MappedFile::open(&path)?;
        if let Some(tensor) = listed.iter().filter(|tensor| !entries.contains_key(*tensor)).min() {
            return Err(problem(format!("tensor {tensor} is not in shard {shard}")));
        }
        if let Some(tensor) = entries.keys().filter(|tensor| !listed.contains(*tensor)).min() {
            return Err(problem(format!(
                "shard {shard} has tensor {tensor}, which the index does not list there"
            )));
        }
        files.push((file, entries));
    }
    Ok(files)
}

/// The part of the index that is used; the rest (`metadata`) is advice.
#[derive(serde::Deserialize)]
struct IndexFile {
    weight_map: EntriesOnce,
}

/// A JSON object of strings that remembers whether a key came twice.
struct EntriesOnce {
    entries: BTreeMap<String, String>,
    repeated: Option<String>,
}

impl<'de> Deserialize<'de> for EntriesOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = EntriesOnce;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from tensor names to file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EntriesOnce, A::Error> {
                let mut found = EntriesOnce { entries: BTreeMap::new(), repeated: None };
                while let Some((name, file)) = map.next_entry::<String, String>()? {
                    if found.entries.insert(name.clone(), file).is_some() {
                        found.repeated.get_or_insert(name);
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The first key of a JSON object that occurs twice; values are skipped.
pub(super) struct NamesOnce {
    pub(super) repeated: Option<String>,
}

impl<'de> Deserialize<'de> for NamesOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = NamesOnce;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from tensor names to their entries")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NamesOnce, A::Error> {
                let mut seen = HashSet::new();
                let mut repeated = None;
                while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                    if !seen.insert(name.clone()) {
                        repeated.get_or_insert(name);
                    }
                }
                Ok(NamesOnce { repeated })
            }
        }
        deserializer.deserialize_map(Names)
    }
}
