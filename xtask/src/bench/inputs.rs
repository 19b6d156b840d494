//! Model folders and Parquet files that both sides read; made by `peer.py` when first asked for, then kept.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;

use super::peers::Peers;
use crate::shell;

/// The folder with the inputs. What is older than `make.py` is made again.
#[derive(Debug)]
pub(super) struct Inputs {
    folder: PathBuf,
}

impl Inputs {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// A random Llama folder: `10m` or `135m`.
    ///
    /// # Errors
    /// `peer.py` failed.
    pub(super) fn model(&self, peers: &Peers, shape: &str) -> Result<String> {
        self.made(peers, shape, &["make-model", "--shape", shape])
    }

    /// `count` pairs of token ids, prompt and completions half of `length` each, or ragged.
    ///
    /// # Errors
    /// As [`Inputs::model`].
    pub(super) fn pairs(&self, peers: &Peers, length: u64, count: u64, ragged: bool) -> Result<String> {
        let name = format!("pairs-{length}x{count}{}.parquet", if ragged { "-ragged" } else { "" });
        let (length, count) = (length.to_string(), count.to_string());
        let mut args = vec!["make-pairs", "--length", &length, "--pairs", &count];
        args.extend(ragged.then_some("--ragged"));
        self.made(peers, &name, &args)
    }

    /// The suite's model with random weights.
    ///
    /// # Errors
    /// As [`Inputs::model`].
    pub(super) fn suite_model(&self, peers: &Peers) -> Result<String> {
        self.made(peers, "suite", &["make-suite-model", "--suite", &suite()])
    }

    /// `batches` batches of the suite's SFT corpus, each of rows of nearly one length.
    ///
    /// # Errors
    /// As [`Inputs::model`].
    pub(super) fn suite_sft(&self, peers: &Peers, batch: u64, batches: u64) -> Result<String> {
        let name = format!("suite-sft-{batch}x{batches}.parquet");
        let (batch, batches) = (batch.to_string(), batches.to_string());
        let args = ["make-suite-sft", "--suite", &suite(), "--batch", &batch, "--batches", &batches];
        self.made(peers, &name, &args)
    }

    /// `count` pairs of the suite's tasks in turn.
    ///
    /// # Errors
    /// As [`Inputs::model`].
    pub(super) fn suite_dpo(&self, peers: &Peers, count: u64) -> Result<String> {
        let name = format!("suite-dpo-{count}.parquet");
        self.made(peers, &name, &["make-suite-dpo", "--suite", &suite(), "--pairs", &count.to_string()])
    }

    fn made(&self, peers: &Peers, name: &str, args: &[&str]) -> Result<String> {
        let path = self.folder.join(name);
        let text = path.display().to_string();
        let made = changed(&path);
        if made.is_none() || made < changed(&shell::root().join("benches/peers/make.py")) {
            shell::say(&format!("bench:   making {text}"));
            let out = ["--out", &text];
            peers.run(&[args, &out].concat())?;
        }
        Ok(text)
    }
}

/// When a file or folder was last written, if it exists.
fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

fn suite() -> String {
    shell::root().join("datasets").join("suite").display().to_string()
}
