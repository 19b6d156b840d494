//! What a command has done so far, in a folder beside its output: `OUT.partial`.
//!
//! ```text
//! OUT.partial/checkpoints/    of training
//! OUT.partial/scores-KEY/     log-probabilities; KEY covers model, pairs and everything else that their bits depend on
//! OUT.partial/*.tokens        tokenised rows, made anew by every call
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use ama_specialist_cache::ScoreStore;
use anyhow::{Context as _, Result};

use crate::console;
use crate::exit::bad_input;
use crate::files;
use crate::key::Key;
use crate::output::Output;

const CHECKPOINTS: &str = "checkpoints";
const SCORES: &str = "scores-";
const TOKENS: &str = ".tokens";

/// The claimed output of a command, and the folder of its state until it is done.
///
/// Dropped without [`WorkFolder::done`], the folder stays if there is something to continue from, and goes otherwise.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    path: PathBuf,
    /// Freed after the folder went.
    _output: Output,
}

impl WorkFolder {
    /// For a model folder `out`, which must not exist yet.
    ///
    /// # Errors
    /// `out` is taken or worked on; checkpoints of an earlier call are there and `resume` is not given.
    pub(crate) fn of_model(out: &Path, resume: bool) -> Result<Self> {
        let output = Output::claim(out)?;
        let path = folder_of(out)?;
        if !files::is_free(out)? && path.exists() {
            // Nobody else works on it: a call was killed just after its output was whole.
            files::remove(&path)?;
            console::note(&format!("removed {}: {} is whole", path.display(), out.display()));
        }
        files::want_free(out)?;
        if !resume && has_checkpoint(&path) {
            return Err(bad_input(format!(
                "{} holds an unfinished run; continue it with --resume, or remove it to start again",
                path.display()
            )));
        }
        Self::open(path, output)
    }

    /// For a file `out`, which is replaced if it exists.
    ///
    /// # Errors
    /// `out` is a folder or worked on.
    pub(crate) fn of_file(out: &Path) -> Result<Self> {
        let output = Output::claim_file(out)?;
        Self::open(folder_of(out)?, output)
    }

    fn open(path: PathBuf, output: Output) -> Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let folder = Self { path, _output: output };
        files::remove_entries(&folder.path, |name| name.starts_with('.'))?;
        Ok(folder)
    }

    /// Where the rows of a data set are tokenised to.
    pub(crate) fn tokens(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}{TOKENS}"))
    }

    /// Folder of the checkpoints.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    /// The store of scores that belong to `key`. Scores of other models, pairs or settings have stores of their own, so
    /// that a call which goes on ends with the bits of one that was not cut off.
    ///
    /// # Errors
    /// The disk refuses.
    pub(crate) fn scores(&self, key: &Key) -> Result<ScoreStore> {
        Ok(ScoreStore::open(self.path.join(format!("{SCORES}{}", &key.hex()[..16])))?)
    }

    /// The output is complete; the state goes.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn done(self) -> Result<()> {
        files::remove(&self.path)
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if !has_checkpoint(&self.path) && !has_scores(&self.path) {
            // Nothing in it is worth keeping, and an error has been reported already.
            let _ = files::remove(&self.path);
        }
    }
}

/// `OUT.partial`, if it is not there or ours.
fn folder_of(out: &Path) -> Result<PathBuf> {
    let path = files::beside(out, ".partial");
    let ours = |name: &str| {
        name == CHECKPOINTS || name.starts_with(SCORES) || name.ends_with(TOKENS) || name.starts_with('.')
    };
    if path.exists() && !(path.is_dir() && names(&path).iter().all(|name| ours(name))) {
        return Err(bad_input(format!(
            "{}: the state of the work goes there, but it holds something else; move it or choose another --out",
            path.display()
        )));
    }
    Ok(path)
}

fn has_checkpoint(work: &Path) -> bool {
    names(&work.join(CHECKPOINTS)).iter().any(|name| name.starts_with("step-"))
}

/// Whether a store of scores holds a shard.
fn has_scores(work: &Path) -> bool {
    let holds_shard = |key: PathBuf| names(&key).iter().any(|name| name.ends_with(".parquet"));
    names(work).iter().filter(|name| name.starts_with(SCORES)).any(|store| {
        let store = work.join(store);
        names(&store).iter().any(|key| holds_shard(store.join(key)))
    })
}

/// Names in a folder; none if it cannot be listed.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
