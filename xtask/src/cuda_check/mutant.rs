//! A copy of `ama-loss` in a workspace of its own, for bugs that only its compiled form shows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::bug_list::Bug;
use crate::shell;

/// The copy.
#[derive(Debug)]
pub(super) struct Mutant {
    pub(super) root: PathBuf,
}

impl Mutant {
    /// Copies what is needed to build `ama-loss` and its tests.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let root = folder.join("mutant");
        let manifest = read(&shell::root().join("Cargo.toml"))?;
        let mut lines: Vec<String> = manifest.lines().map(str::to_owned).collect();
        let Some(members) = lines.iter_mut().find(|line| line.starts_with("members = ")) else {
            bail!("Cargo.toml has no line `members = `");
        };
        *members = "members = [\"crates/ama-loss\"]".to_owned();
        // Built a dozen times and run once each.
        let manifest = lines.join("\n") + "\n";
        let (fast, quick) = (
            "[profile.dev.package.ama-loss]\nopt-level = 3",
            "[profile.dev.package.ama-loss]\nopt-level = 1",
        );
        write(&root.join("Cargo.toml"), &manifest.replace(fast, quick))?;
        // Cargo drops what the one member does not need; written again only if it is not there.
        if !root.join("Cargo.lock").exists() {
            write(&root.join("Cargo.lock"), &read(&shell::root().join("Cargo.lock"))?)?;
        }
        let mutant = Self { root };
        mutant.copy(Path::new("crates/ama-loss"))?;
        Ok(mutant)
    }

    fn copy(&self, folder: &Path) -> Result<()> {
        let from = shell::root().join(folder);
        for entry in fs::read_dir(&from).with_context(|| format!("cannot list {}", from.display()))? {
            let entry = entry?;
            let below = folder.join(entry.file_name());
            if entry.path().is_dir() {
                self.copy(&below)?;
            } else {
                write(&self.root.join(&below), &read(&entry.path())?)?;
            }
        }
        Ok(())
    }

    /// Puts the bug into the copy; the original text is put back by [`Mutant::heal`].
    ///
    /// # Errors
    /// The bug's text does not occur exactly once.
    pub(super) fn infect(&self, bug: &Bug) -> Result<()> {
        write(&self.file(bug), &mutated(bug)?)
    }

    /// Takes the bug out again.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub(super) fn heal(&self, bug: &Bug) -> Result<()> {
        write(&self.file(bug), &read(&sources().join(bug.file))?)
    }

    fn file(&self, bug: &Bug) -> PathBuf {
        self.root.join("crates/ama-loss/src/cuda").join(bug.file)
    }
}

/// Where the kernels and their launches are.
pub(super) fn sources() -> PathBuf {
    shell::root().join("crates/ama-loss/src/cuda")
}

/// The file of the bug, with the bug.
///
/// # Errors
/// Its text does not occur exactly once.
pub(super) fn mutated(bug: &Bug) -> Result<String> {
    let text = read(&sources().join(bug.file))?;
    match text.matches(bug.find).count() {
        1 => Ok(text.replace(bug.find, bug.replace)),
        n => {
            bail!("seeded bug `{}`: its text occurs {n} times in {}; bring it up to date", bug.name, bug.file)
        }
    }
}

pub(super) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file if its text is another: cargo looks at times.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
