//! What a path is that is not a model folder, in words, with the remedy.

use std::path::PathBuf;

/// What was found in place of a model folder; displayed as what follows the path in a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAModel {
    /// Nothing is there.
    #[error(
        "no such folder; want a Hugging Face model folder (config.json, model.safetensors, tokenizer.json); a model of \
         the Hub has to be downloaded first"
    )]
    Missing,
    /// Nothing is there, and the path looks like `organisation/name`.
    #[error(
        "no such folder; if it is the name of a model on the Hugging Face Hub, download it first (`hf download {name} \
         --local-dir DIR`) and name that folder"
    )]
    HubName {
        /// The name on the Hub.
        name: String,
    },
    /// An address on the network.
    #[error(
        "an address, not a folder; download the model first (`hf download ORGANISATION/NAME --local-dir DIR`) and \
         name that folder"
    )]
    Url,
    /// A path that a shell would have expanded.
    #[error("no such folder; `~` is expanded by the shell, and only outside of quotes: write the path out")]
    Tilde,
    /// A symbolic link whose target is not there.
    #[error("a link to {}, which is not there; restore the target, or copy or download the model again", target.display())]
    DanglingLink {
        /// What the link says.
        target: PathBuf,
    },
    /// One GGUF file, or a folder with nothing else.
    #[error(
        "{}GGUF, llama.cpp's format, is not read; want a Hugging Face model folder (config.json, model.safetensors, \
         tokenizer.json), such as the one that the GGUF file was converted from",
        file.as_ref().map_or(String::new(), |file| format!("holds {file} only; "))
    )]
    Gguf {
        /// The file's name, if a folder was given.
        file: Option<String>,
    },
    /// A weights file of a model.
    #[error("a weights file; want the folder that it lies in, with config.json and tokenizer.json beside it")]
    WeightsFile,
    /// Some other file.
    #[error("a file; want a Hugging Face model folder (config.json, model.safetensors, tokenizer.json)")]
    File,
    /// The folder of a model in the Hub's cache.
    #[error("a model's folder in the Hub cache; name the snapshot in it: {}", listed(snapshots))]
    HubCache {
        /// Folders below `snapshots/`; the one that `refs/main` names alone, if it is there.
        snapshots: Vec<PathBuf>,
    },
    /// A folder whose subfolders are models.
    #[error(
        "no model itself (no config.json, no weights); it holds model folders, so name one: {}",
        listed(folders)
    )]
    ModelsInside {
        /// The model folders, in alphabetical order.
        folders: Vec<PathBuf>,
    },
    /// Weights as Meta or Mistral publish them.
    #[error(
        "{file} belongs to the original format of Meta or Mistral, which is not read; want the Hugging Face form of the \
         model (config.json, model.safetensors, tokenizer.json)"
    )]
    OriginalFormat {
        /// The file that gives it away.
        file: String,
    },
    /// A folder with nothing of a model in it.
    #[error(
        "no config.json and no weights; want a Hugging Face model folder (config.json, model.safetensors, tokenizer.json)"
    )]
    Nothing,
    /// A LoRA or other adapter, which is no model without its base.
    #[error(
        "an adapter{}, not a full model ({file}); merge it into its base first (PEFT: `merge_and_unload()`, then \
         `save_pretrained`) and name the result",
        base.as_ref().map_or(String::new(), |base| format!(" of {base}"))
    )]
    Adapter {
        /// The file that gives it away.
        file: String,
        /// `base_model_name_or_path` of its configuration.
        base: Option<String>,
    },
    /// Full weights and an adapter in one folder.
    #[error(
        "holds full weights and an adapter ({file}); `transformers` would load the adapter's base and the adapter, \
         others the weights, so move one of them to another folder"
    )]
    AdapterBesideWeights {
        /// The adapter's file.
        file: String,
    },
}

/// The first few of the folders, and how many more there are.
pub(crate) fn listed(folders: &[PathBuf]) -> String {
    const SHOWN: usize = 4;
    let mut text: Vec<String> =
        folders.iter().take(SHOWN).map(|folder| folder.display().to_string()).collect();
    if folders.len() > SHOWN {
        text.push(format!("and {} more", folders.len() - SHOWN));
    }
    text.join(", ")
}
