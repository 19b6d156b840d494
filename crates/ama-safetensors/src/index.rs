//! Which file holds which tensor: a single `model.safetensors`, or shards listed in an index.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Component, Path};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::error::{FolderError, IndexProblem, io};
use crate::lfs::is_lfs_pointer;
use crate::mapped::WeightsFile;
use crate::other_weights::OtherWeights;

/// The single weights file.
pub const SINGLE: &str = "model.safetensors";
/// The index of a sharded model.
pub const INDEX: &str = "model.safetensors.index.json";

/// Tables that older saves hold or list beside the parameters. They follow from the configuration, every implementation
/// computes them by itself, and `transformers` passes over them.
const COMPUTED: [&str; 3] = ["rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached"];

fn is_computed(tensor: &str) -> bool {
    COMPUTED.iter().any(|table| {
        tensor.strip_suffix(table).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    })
}

/// Opens and checks every weights file of a model folder, in the order of the file names; a tensor is in one of them only.
/// Rotary tables are left out.
///
/// As in `transformers`, a single file wins over an index.
///
/// # Errors
/// [`FolderError::NoWeights`], [`FolderError::Index`], [`FolderError::DuplicateTensor`], and what
/// [`WeightsFile::open`] refuses.
pub fn open_weights(dir: &Path) -> Result<Vec<WeightsFile>, FolderError> {
    let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
    let mut files = if single.exists() {
        vec![WeightsFile::open(&single)?]
    } else if index.exists() {
        open_shards(dir, &index)?
    } else {
        return Err(FolderError::NoWeights { dir: dir.to_path_buf(), found: OtherWeights::of(dir) });
    };
    for file in &mut files {
        file.retain(|tensor| !is_computed(tensor));
    }
    let mut seen: HashMap<&str, &WeightsFile> = HashMap::new();
    for file in &files {
        for (tensor, _) in file.entries() {
            if let Some(first) = seen.insert(tensor, file) {
                return Err(FolderError::DuplicateTensor {
                    path: file.path().to_path_buf(),
                    tensor: tensor.to_owned(),
                    first: first.path().to_path_buf(),
                });
            }
        }
    }
    Ok(files)
}

fn open_shards(dir: &Path, index: &Path) -> Result<Vec<WeightsFile>, FolderError> {
    let text = std::fs::read(index).map_err(io("read", index))?;
    if is_lfs_pointer(&text) {
        return Err(FolderError::LfsPointer { path: index.to_path_buf() });
    }
    let parsed: IndexFile = serde_json::from_slice(&text)
        .map_err(|source| FolderError::Json { path: index.to_path_buf(), source })?;
    let problem = |problem| FolderError::Index { path: index.to_path_buf(), problem };
    if let Some(tensor) = parsed.weight_map.repeated {
        let path = index.to_path_buf();
        return Err(FolderError::DuplicateTensor { first: path.clone(), path, tensor });
    }

    let mut shards: BTreeMap<String, HashSet<String>> = BTreeMap::new();
    for (tensor, shard) in parsed.weight_map.entries {
        let mut parts = Path::new(&shard).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain || shard.contains(['/', '\\']) {
            return Err(problem(IndexProblem::NotAFileName { tensor, shard }));
        }
        if !is_computed(&tensor) {
            shards.entry(shard).or_default().insert(tensor);
        }
    }
    if shards.is_empty() {
        return Err(problem(IndexProblem::Empty));
    }

    let mut files = Vec::with_capacity(shards.len());
    for (shard, listed) in shards {
        let path = dir.join(&shard);
        if !path.exists() {
            // Each shard has at least the tensor that named it.
            let tensor = listed.into_iter().min().unwrap_or_default();
            return Err(problem(IndexProblem::MissingShard { shard, tensor }));
        }
        let file = WeightsFile::open(&path)?;
        if let Some(tensor) = listed.iter().filter(|tensor| file.get(tensor).is_none()).min() {
            return Err(problem(IndexProblem::NotInShard { shard, tensor: tensor.clone() }));
        }
        let extra = file.entries().find(|(tensor, _)| !listed.contains(*tensor) && !is_computed(tensor));
        if let Some((tensor, _)) = extra {
            return Err(problem(IndexProblem::NotInIndex { shard, tensor: tensor.to_owned() }));
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

#[cfg(test)]
mod tests {
    use super::is_computed;

    #[test]
    fn only_whole_names_of_rotary_tables_count() {
        for name in ["rotary_emb.inv_freq", "model.layers.0.self_attn.rotary_emb.cos_cached"] {
            assert!(is_computed(name), "{name}");
        }
        for name in ["model.not_rotary_emb.inv_freq", "rotary_emb.inv_freq.weight", "rotary_emb", "inv_freq"]
        {
            assert!(!is_computed(name), "{name}");
        }
    }
}
