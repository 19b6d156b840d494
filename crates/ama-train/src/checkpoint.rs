//! Training state on disk: one safetensors file per checkpoint, written to a temporary name, synced and renamed.
//!
//! Tensors `param/NAME`, `first/NAME`, `second/NAME` (f32, flat) and one metadata entry `ama` with the JSON
//! `Header`. A blake3 checksum over tensors and header makes any damage visible.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ama_model::Params;
use ama_model::access::values;
use safetensors::{Dtype, SafeTensors, View};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::optim::AdamW;
use crate::{Summary, TrainError};

/// Version of the file's layout; another version is refused.
const VERSION: u32 = 1;
const KEY: &str = "ama";
const PREFIX: &str = "step-";
const SUFFIX: &str = ".safetensors";
/// A checkpoint that is not whole yet is `.step-XXXXXX.tmp`, which safetensors in turn writes as `.tmpXXXXXX`.
const UNFINISHED: (&str, &str) = (".step-", ".tmp");
const UNFINISHED_INNER: &str = ".tmp";

/// Where and how often a run is saved.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoints {
    /// Folder for checkpoint files, of one process at a time; `None` saves nothing.
    pub folder: Option<PathBuf>,
    /// Save after every so many steps; `None` only when stopped.
    pub every_steps: Option<u64>,
    /// Names everything the run depends on (data, settings, starting weights). A checkpoint with another identity is
    /// refused.
    pub identity: String,
    /// Continue from the newest checkpoint in the folder, if there is one.
    pub resume: bool,
}

impl Checkpoints {
    /// No checkpoints at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    pub(crate) fn due(&self, steps: u64) -> bool {
        self.folder.is_some() && self.every_steps.is_some_and(|n| n > 0 && steps.is_multiple_of(n))
    }
}

/// The JSON beside the tensors.
#[derive(Serialize, Deserialize)]
struct Header<S> {
    version: u32,
    identity: String,
    /// blake3 of all tensors in registry order (params, first, second), then of `summary` and `objective` as JSON.
    checksum: String,
    summary: Summary,
    objective: S,
}

/// A checkpoint that was read and checked.
pub(crate) struct Checkpoint<S> {
    pub(crate) params: Vec<Vec<f32>>,
    pub(crate) first: Vec<Vec<f32>>,
    pub(crate) second: Vec<Vec<f32>>,
    pub(crate) summary: Summary,
    pub(crate) objective: S,
}

/// A flat f32 tensor that is written without a copy.
struct Flat<'a> {
    values: &'a [f32],
    shape: [usize; 1],
}

impl<'a> Flat<'a> {
    fn new(values: &'a [f32]) -> Self {
        Self { values, shape: [values.len()] }
    }
}

impl View for Flat<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(bytemuck::cast_slice(self.values))
    }
    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

const GROUPS: [&str; 3] = ["param", "first", "second"];

fn checksum<'a>(tensors: impl Iterator<Item = &'a [f32]>, summary: &str, objective: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    for values in tensors {
        hasher.update_rayon(bytemuck::cast_slice(values));
    }
    hasher.update(summary.as_bytes()).update(objective.as_bytes());
    hasher.finalize().to_hex().to_string()
}

fn json<T: Serialize>(path: &Path, value: &T) -> Result<String, TrainError> {
    serde_json::to_string(value).map_err(|e| TrainError::Checkpoint {
        path: path.to_path_buf(),
        reason: format!("state is not JSON: {e}"),
    })
}

/// Writes a checkpoint and deletes older ones; `None` when there is no folder to write to.
pub(crate) fn save<S: Serialize>(
    checkpoints: &Checkpoints,
    params: &Params,
    optimiser: &AdamW,
    summary: &Summary,
    objective: &S,
) -> Result<Option<PathBuf>, TrainError> {
    let Some(folder) = &checkpoints.folder else { return Ok(None) };
    std::fs::create_dir_all(folder).map_err(TrainError::io("creating", folder))?;
    let path = folder.join(format!("{PREFIX}{:010}{SUFFIX}", summary.steps));
    let (first, second) = optimiser.moments();
    let weights = || params.iter().map(|p| values(&p.tensor));
    let everything = weights().chain(first.iter().map(Vec::as_slice)).chain(second.iter().map(Vec::as_slice));
    let checksum = checksum(everything.clone(), &json(&path, summary)?, &json(&path, objective)?);
    let header = Header {
        version: VERSION,
        identity: checkpoints.identity.clone(),
        checksum,
        summary: summary.clone(),
        objective,
    };
    let names = GROUPS.iter().flat_map(|group| params.iter().map(move |p| format!("{group}/{}", p.name)));
    let tensors: Vec<_> = names.zip(everything.map(Flat::new)).collect();
    let metadata = HashMap::from([(KEY.to_owned(), json(&path, &header)?)]);

    // The temporary file is deleted when anything below fails, so a full disk leaves the older checkpoint alone.
    let temporary = tempfile::Builder::new()
        .prefix(UNFINISHED.0)
        .suffix(UNFINISHED.1)
        .tempfile_in(folder)
        .map_err(TrainError::io("creating a temporary file in", folder))?;
    safetensors::serialize_to_file(tensors, Some(metadata), temporary.path()).map_err(|e| {
        TrainError::Io { action: "writing", path: path.clone(), source: std::io::Error::other(e) }
    })?;
    let written =
        std::fs::File::open(temporary.path()).map_err(TrainError::io("opening", temporary.path()))?;
    written.sync_all().map_err(TrainError::io("syncing", &path))?;
    temporary.persist(&path).map_err(|e| TrainError::Io {
        action: "renaming to",
        path: path.clone(),
        source: e.error,
    })?;
    sync_folder(folder)?;
    for older in list(folder)?.into_iter().filter(|p| *p != path) {
        std::fs::remove_file(&older).map_err(TrainError::io("deleting", &older))?;
    }
    Ok(Some(path))
}

fn sync_folder(folder: &Path) -> Result<(), TrainError> {
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(TrainError::io("syncing", folder))
}

/// Checkpoint files of a folder, oldest first. Leftovers of a crash (temporary names) are not among them.
fn list(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    named(folder, PREFIX, SUFFIX)
}

/// Deletes what killed processes were writing. A run's folder has one process at a time, so nobody is writing now.
pub(crate) fn remove_unfinished(checkpoints: &Checkpoints) -> Result<(), TrainError> {
    let Some(folder) = checkpoints.folder.as_ref().filter(|folder| folder.is_dir()) else { return Ok(()) };
    for (start, end) in [UNFINISHED, (UNFINISHED_INNER, "")] {
        for path in named(folder, start, end)? {
            std::fs::remove_file(&path).map_err(TrainError::io("deleting", &path))?;
        }
    }
    Ok(())
}

/// Files of a folder whose names begin and end so, sorted.
fn named(folder: &Path, start: &str, end: &str) -> Result<Vec<PathBuf>, TrainError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(TrainError::io("listing", folder))? {
        let path = entry.map_err(TrainError::io("listing", folder))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with(start) && name.ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The newest checkpoint, checked against `identity` and its checksum; `None` when there is nothing to resume.
///
/// # Errors
/// [`TrainError::Checkpoint`] when a file is there but damaged, of another version or of another run.
pub(crate) fn latest<S: Serialize + DeserializeOwned>(
    checkpoints: &Checkpoints,
    params: &Params,
) -> Result<Option<Checkpoint<S>>, TrainError> {
    let Some(folder) = checkpoints.folder.as_ref().filter(|f| checkpoints.resume && f.is_dir()) else {
        return Ok(None);
    };
    let Some(path) = list(folder)?.pop() else { return Ok(None) };
    let bad = |reason: String| TrainError::Checkpoint { path: path.clone(), reason };
    let bytes = std::fs::read(&path).map_err(TrainError::io("reading", &path))?;
    let damaged = |e: &dyn std::fmt::Display| bad(format!("is damaged ({e}); delete it to start again"));
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e))?;
    let text =
        metadata.metadata().as_ref().and_then(|m| m.get(KEY)).ok_or_else(|| damaged(&"no `ama` metadata"))?;
    let header: Header<S> = serde_json::from_str(text).map_err(|e| damaged(&e))?;
    if header.version != VERSION {
        return Err(bad(format!(
            "has version {}, this build reads {VERSION}; use the matching build",
            header.version
        )));
    }
    if header.identity != checkpoints.identity {
        return Err(bad(
            "belongs to a run with other data, settings or starting weights; use another output folder or delete it".into(),
        ));
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&e))?;
    let mut groups = GROUPS.iter().map(|group| {
        params
            .iter()
            .map(|p| {
                let name = format!("{group}/{}", p.name);
                let tensor = tensors.tensor(&name).map_err(|e| damaged(&e))?;
                let want: usize = p.shape.iter().product();
                if tensor.dtype() != Dtype::F32 || tensor.shape() != [want] {
                    return Err(damaged(&format_args!("tensor `{name}` is not {want} f32 values")));
                }
                Ok(tensor
                    .data()
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .collect())
            })
            .collect::<Result<Vec<Vec<f32>>, TrainError>>()
    });
    let mut next = || groups.next().expect("three groups");
    let (params, first, second) = (next()?, next()?, next()?);
    let all = params.iter().chain(&first).chain(&second).map(Vec::as_slice);
    if checksum(all, &json(&path, &header.summary)?, &json(&path, &header.objective)?) != header.checksum {
        return Err(damaged(&"checksum differs"));
    }
    Ok(Some(Checkpoint { params, first, second, summary: header.summary, objective: header.objective }))
}
