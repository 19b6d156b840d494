//! The run folder: ours, and ours alone while we work in it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::exit::bad_input;
use crate::live::PAGE;
use crate::lock::Lock;
use crate::{files, output};

/// What `run.json` says about itself.
const FORMAT: &str = "ama-run 1";

/// Locked as long as a process works in the folder; `ama-report` looks at it.
const LOCK: &str = ".lock";

/// A locked run folder. The lock goes with the process, however it ends.
#[derive(Debug)]
pub(crate) struct RunFolder {
    root: PathBuf,
    _lock: Lock,
}

impl RunFolder {
    /// Opens or creates the folder.
    ///
    /// # Errors
    /// It exists and is not a run folder, or another process works in it.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        if root.exists() && !root.is_dir() {
            return Err(bad_input(format!(
                "{} exists and is not a folder; choose another --out",
                root.display()
            )));
        }
        if !is_ours(root)? {
            return Err(bad_input(format!(
                "{} exists already and is not a run folder (no run.json of ama's in it); choose another --out",
                root.display()
            )));
        }
        output::want_unclaimed(root)?;
        fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
        let lock = Lock::take(&root.join(LOCK), root)?;
        let root = fs::canonicalize(root).with_context(|| format!("cannot open {}", root.display()))?;
        let folder = Self { root, _lock: lock };
        folder.remove_unfinished()?;
        Ok(folder)
    }

    /// The folder, absolute.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Removes what killed processes were writing in the folder itself and beside the loss tables; stages and the cache see
    /// to their own. The page has writers without our lock.
    fn remove_unfinished(&self) -> Result<()> {
        files::remove_entries(&self.root, |name| {
            is_unfinished(name) && !name.starts_with(&format!(".{PAGE}."))
        })?;
        let losses = self.root.join("losses");
        if losses.is_dir() { files::remove_entries(&losses, is_unfinished) } else { Ok(()) }
    }

    /// Writes `run.json` (which marks the folder as ours) and the resolved configuration.
    ///
    /// # Errors
    /// The disk refuses.
    pub(crate) fn describe(&self, resolved: &str, about: Value) -> Result<()> {
        let mut run = json!({ "format": FORMAT });
        if let (Value::Object(run), Value::Object(about)) = (&mut run, about) {
            run.extend(about);
        }
        files::write_json(&self.root.join("run.json"), &run)?;
        files::write_whole(&self.root.join("config.resolved.toml"), resolved.as_bytes())
    }
}

/// Missing, empty (but for our lock), or with a `run.json` of ours.
fn is_ours(root: &Path) -> Result<bool> {
    if !root.exists() {
        return Ok(true);
    }
    let run = root.join("run.json");
    if run.exists() {
        let marked: Option<Value> = files::read_json(&run).unwrap_or(None);
        return Ok(marked.is_some_and(|run| run.get("format").and_then(Value::as_str) == Some(FORMAT)));
    }
    let entries = fs::read_dir(root).with_context(|| format!("cannot list {}", root.display()))?;
    for entry in entries {
        let name = entry.with_context(|| format!("cannot list {}", root.display()))?.file_name();
        let name = name.to_string_lossy();
        if name != LOCK && !is_unfinished(&name) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a file has a temporary name of ours.
fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && name.contains(".ama-") && name.ends_with(".tmp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_folders_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("thesis.tex"), "").unwrap();
        assert!(RunFolder::open(&other).unwrap_err().to_string().contains("not a run folder"));
        let run = folder.path().join("run");
        let open = RunFolder::open(&run).unwrap();
        open.describe("", json!({ "seed": 1 })).unwrap();
        let second = RunFolder::open(&run).unwrap_err().to_string();
        assert!(second.contains("another `ama`"), "{second}");
        drop(open);
        fs::write(run.join(".run.json.ama-Xy12Zw.tmp"), "half").unwrap();
        drop(RunFolder::open(&run).unwrap());
        let mut names: Vec<_> = fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["config.resolved.toml", "run.json"], "neither the lock nor a leftover stays");
    }
}
