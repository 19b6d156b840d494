//! Which file holds which tensor: a single `model.safetensors`, or shards listed in an index.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::mapped::MappedFile;
use crate::error::{IndexProblem, ModelError};

/// The single weights file.
pub(super) const SINGLE: &str = "model.safetensors";
/// The index of a sharded model.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// Opens and checks every weights file of a model folder.
///
/// As in `transformers`, a single file wins over an index.
pub(super) fn open_weights(dir: &Path) -> Result<Vec<MappedFile>, ModelError> {
    let single = dir.join(SINGLE);
    if single.exists() {
        return Ok(vec![MappedFile::open(&single)?]);
    }
    let index = dir.join(INDEX);
    if index.exists() {
        return open_shards(dir, &index);
    }
    for pickle in ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"] {
        if dir.join(pickle).exists() {
            return Err(ModelError::PickleOnly { dir: dir.to_path_buf(), found: pickle.to_owned() });
        }
    }
    Err(ModelError::NoWeights { dir: dir.to_path_buf() })
}

fn open_shards(dir: &Path, index: &Path) -> Result<Vec<MappedFile>, ModelError> {
    let text = std::fs::read(index).map_err(|source| ModelError::Io {
        action: "read",
        path: index.to_path_buf(),
        source,
    })?;
    let parsed: IndexFile = serde_json::from_slice(&text)
        .map_err(|source| ModelError::Json { path: index.to_path_buf(), source })?;
    let problem = |problem| ModelError::Index { path: index.to_path_buf(), problem };
    if let Some(tensor) = parsed.weight_map.repeated {
        let path = index.to_path_buf();
        return Err(ModelError::DuplicateTensor { first: path.clone(), path, tensor });
    }

    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, shard) in parsed.weight_map.entries {
        let mut parts = Path::new(&shard).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain || shard.contains(['/', '\\']) {
            return Err(problem(IndexProblem::NotAFileName { tensor, shard }));
        }
        shards.entry(shard).or_default().push(tensor);
    }
    if shards.is_empty() {
        return Err(problem(IndexProblem::Empty));
    }

    let mut files = Vec::with_capacity(shards.len());
    for (shard, tensors) in shards {
        let path: PathBuf = dir.join(&shard);
        if !path.exists() {
            // Each shard has at least the tensor that named it.
            let tensor = tensors.into_iter().next().unwrap_or_default();
            return Err(problem(IndexProblem::MissingShard { shard, tensor }));
        }
        let file = MappedFile::open(&path)?;
        let listed: HashSet<String> = tensors.into_iter().collect();
        if let Some(tensor) = listed.iter().filter(|t| !file.entries.contains_key(*t)).min() {
            return Err(problem(IndexProblem::NotInShard { shard, tensor: tensor.clone() }));
        }
        if let Some(tensor) = file.entries.keys().filter(|t| !listed.contains(*t)).min() {
            return Err(problem(IndexProblem::NotInIndex { shard, tensor: tensor.clone() }));
        }
        files.push(file);
    }
    Ok(files)
}

/// The part of the index file that is used; the rest (`metadata`) is advice.
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
                let mut entries = BTreeMap::new();
                let mut repeated = None;
                while let Some((name, file)) = map.next_entry::<String, String>()? {
                    if entries.insert(name.clone(), file).is_some() {
                        repeated.get_or_insert(name);
                    }
                }
                Ok(EntriesOnce { entries, repeated })
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
