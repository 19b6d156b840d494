//! What lies in a folder in place of `model.safetensors`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::check::{models_inside, names};
use crate::index::{INDEX, SINGLE};
use crate::not_a_model::listed;

/// Weights of another kind; displayed as what follows "no model.safetensors ..." in a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OtherWeights {
    /// Pickled weights, which can run code when they are opened.
    #[error(
        ", only {file}, a Python pickle, which can run code when it is opened, so it is refused; convert it once in Python: \
         AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)"
    )]
    Pickle {
        /// The pickle's name.
        file: String,
    },
    /// Shards, but not the index that says which of them holds what.
    #[error(", only shards such as {shard}; the index belongs to them, so complete the download")]
    ShardsWithoutIndex {
        /// One of the shards.
        shard: String,
    },
    /// Weights in the right format under another name.
    #[error(", only {file}; if it holds all weights of this model, rename it to model.safetensors")]
    OtherName {
        /// The file.
        file: String,
    },
    /// Weights of a format that is not read.
    #[error(", only {file}, a format that is not read; want the model's safetensors")]
    OtherFormat {
        /// The file.
        file: String,
    },
    /// A link to a file that is not there.
    #[error(", but {file} is a link to {}, which is not there; copy or download the folder again", target.display())]
    DanglingLink {
        /// The link.
        file: String,
        /// What it says.
        target: PathBuf,
    },
    /// Model folders below.
    #[error(", but model folders below: name one of {}", listed(folders))]
    ModelsInside {
        /// The folders, in alphabetical order.
        folders: Vec<PathBuf>,
    },
    /// Nothing like weights.
    #[error("; copy or download them into the folder")]
    None,
}

impl OtherWeights {
    /// Looks at the names in a folder.
    pub(crate) fn of(dir: &Path) -> Self {
        let names = names(dir);
        let ends =
            |ends: &[&str]| names.iter().find(|name| ends.iter().any(|end| name.ends_with(end))).cloned();
        for file in [SINGLE, INDEX] {
            if let Ok(target) = fs::read_link(dir.join(file)) {
                return Self::DanglingLink { file: file.to_owned(), target };
            }
        }
        let pickles = ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"];
        if let Some(file) = pickles.into_iter().find(|name| dir.join(name).exists()) {
            return Self::Pickle { file: file.to_owned() };
        }
        let shard = names.iter().find(|name| name.contains("-of-") && name.ends_with(".safetensors"));
        if let Some(shard) = shard.cloned() {
            return Self::ShardsWithoutIndex { shard };
        }
        if let Some(file) = ends(&[".safetensors"]) {
            return Self::OtherName { file };
        }
        // What a trainer leaves beside the weights holds none.
        let of_trainer = |name: &str| {
            ["training_args", "optimizer", "scheduler", "rng_state"]
                .iter()
                .any(|start| name.starts_with(start))
        };
        let pickle = names.iter().find(|name| {
            [".bin", ".pth", ".pt", ".ckpt"].iter().any(|end| name.ends_with(end)) && !of_trainer(name)
        });
        if let Some(file) = pickle.cloned() {
            return Self::Pickle { file };
        }
        if let Some(file) = ends(&[".gguf", ".h5", ".msgpack", ".onnx", ".npz", ".nemo"]) {
            return Self::OtherFormat { file };
        }
        match models_inside(dir) {
            folders if folders.is_empty() => Self::None,
            folders => Self::ModelsInside { folders },
        }
    }
}
