//! The run folder: ours, and ours alone while we work in it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::exit::bad_input;
use crate::files;

/// What `run.json` says about itself.
const FORMAT: &str = "ama-run 1";

/// How long to wait for the lock.
const PATIENCE: Duration = Duration::from_secs(1);

/// A locked run folder. The lock goes with the process, however it ends.
#[derive(Debug)]
pub(crate) struct RunFolder {
    root: PathBuf,
    _lock: File,
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
        fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
        let path = root.join(".lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        wait_for(&lock, root, &path)?;
        let root = fs::canonicalize(root).with_context(|| format!("cannot open {}", root.display()))?;
        Ok(Self { root, _lock: lock })
    }

    /// The folder, absolute.
    pub(crate) fn root(&self) -> &Path {
        &self.root
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

/// Locks, waiting a little for a process that is just ending (one that was killed a moment ago, say).
fn wait_for(lock: &File, root: &Path, path: &Path) -> Result<()> {
    let started = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if started.elapsed() < PATIENCE => {
                std::thread::sleep(PATIENCE / 20)
            }
            Err(TryLockError::WouldBlock) => {
                return Err(bad_input(format!(
                    "another `ama` is working in {}; wait for it or choose another --out",
                    root.display()
                )));
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
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
        if name != ".lock" && !(name.starts_with(".ama-") && name.ends_with(".tmp")) {
            return Ok(false);
        }
    }
    Ok(true)
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
        RunFolder::open(&run).unwrap();
    }
}
