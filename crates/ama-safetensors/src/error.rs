//! The one error type of the crate.

use std::path::PathBuf;

use crate::not_a_model::NotAModel;
use crate::other_weights::OtherWeights;

/// Why a path is not used as a model folder, or its weights are not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The path is something else than a model folder.
    #[error("{}: {found}", path.display())]
    NotAModel {
        /// The path as it was given.
        path: PathBuf,
        /// What it is, and what to do.
        found: NotAModel,
    },
    /// The folder holds no weights that are read.
    #[error("{}: no weights here: no model.safetensors and no model.safetensors.index.json{found}", dir.display())]
    NoWeights {
        /// The folder.
        dir: PathBuf,
        /// What lies there instead, and what to do.
        found: OtherWeights,
    },
    /// A file that Git LFS has not fetched.
    #[error(
        "{}: a Git LFS pointer instead of the file itself; run `git lfs pull` in its repository, or download it again",
        path.display()
    )]
    LfsPointer {
        /// The pointer file.
        path: PathBuf,
    },
    /// A `.safetensors` file is truncated, damaged or hostile.
    #[error("{}: not a sound safetensors file: {source}; copy or download it again", path.display())]
    SafeTensors {
        /// The weights file.
        path: PathBuf,
        /// What the format's own reader found.
        source: safetensors::SafeTensorError,
    },
    /// One tensor occurs twice, within a file or across shards.
    #[error(
        "{}: tensor `{tensor}` occurs twice (first in {}); want each tensor once",
        path.display(), first.display()
    )]
    DuplicateTensor {
        /// Where it was seen again.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Where it was seen first.
        first: PathBuf,
    },
    /// The shard index contradicts itself or the shards.
    #[error("{}: {problem}; copy or download the folder again", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// What does not fit.
        problem: IndexProblem,
    },
    /// The index is not the JSON that it should be.
    #[error("{}: not valid JSON of the expected form: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb ("read", "open", ...).
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// How a shard index (`model.safetensors.index.json`) contradicts itself or its shards.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexProblem {
    /// The map of tensors is empty.
    #[error("`weight_map` is empty; want one entry per tensor")]
    Empty,
    /// A shard's name is a path instead of a plain file name.
    #[error("tensor `{tensor}` is said to be in `{shard}`; want the name of a file beside the index")]
    NotAFileName {
        /// The tensor's name.
        tensor: String,
        /// What was given as its file.
        shard: String,
    },
    /// A shard is not there.
    #[error("shard `{shard}` is missing (tensor `{tensor}` should be in it)")]
    MissingShard {
        /// The shard's file name.
        shard: String,
        /// A tensor that should be in it.
        tensor: String,
    },
    /// A shard lacks a tensor.
    #[error("tensor `{tensor}` is not in shard `{shard}`, where the index places it")]
    NotInShard {
        /// The shard's file name.
        shard: String,
        /// The tensor's name.
        tensor: String,
    },
    /// A shard holds a tensor that the index does not place there.
    #[error("shard `{shard}` holds tensor `{tensor}`, which the index does not place there")]
    NotInIndex {
        /// The shard's file name.
        shard: String,
        /// The tensor's name.
        tensor: String,
    },
}

/// Names action and path in an I/O error.
pub(crate) fn io(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(std::io::Error) -> FolderError {
    let path = path.into();
    move |source| FolderError::Io { action, path, source }
}
