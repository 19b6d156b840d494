//! The kit as a folder: the script, programs, wheels, and a manifest that says what they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::artifacts::Artifact;
use crate::shell;

/// The script, which is all of the kit that runs on the other machine besides our programs.
pub(super) const SCRIPT: &str = include_str!("kit.py");

/// A folder that is being filled.
#[derive(Debug)]
pub(super) struct Kit {
    pub(super) folder: PathBuf,
    /// What `manifest.json` says besides the files.
    about: Value,
}

impl Kit {
    /// Empties `folder` and puts the script there.
    ///
    /// # Errors
    /// The folder cannot be emptied or written.
    pub(super) fn new(folder: PathBuf, about: Value) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        for below in ["bin", "wheels"] {
            let below = folder.join(below);
            fs::create_dir_all(&below).with_context(|| format!("cannot make {}", below.display()))?;
        }
        let script = folder.join("kit.py");
        fs::write(&script, SCRIPT).with_context(|| format!("cannot write {}", script.display()))?;
        Ok(Self { folder, about })
    }

    /// Copies a program to `bin/`, without its symbols if `strip` is installed and `stripped` is wanted.
    ///
    /// # Errors
    /// It cannot be copied.
    pub(super) fn add(&self, program: &Artifact, stripped: bool) -> Result<()> {
        let to = self.folder.join("bin").join(&program.name);
        fs::copy(&program.executable, &to)
            .with_context(|| format!("cannot copy {} to {}", program.executable.display(), to.display()))?;
        if stripped && !Command::new("strip").arg(&to).status().is_ok_and(|status| status.success()) {
            shell::say(&format!("device: no `strip`: {} keeps its symbols", program.name));
        }
        Ok(())
    }

    /// Writes `manifest.json` over all files, and returns their sizes by name.
    ///
    /// # Errors
    /// A file cannot be read, or the manifest not written.
    pub(super) fn seal(&self) -> Result<BTreeMap<String, u64>> {
        let (mut sizes, mut files) = (BTreeMap::new(), serde_json::Map::new());
        for path in files_below(&self.folder)? {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.strip_prefix(&self.folder).unwrap_or(&path).display().to_string();
            let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            sizes.insert(name.clone(), bytes.len() as u64);
            files.insert(name, json!({ "bytes": bytes.len(), "sha256": hash }));
        }
        let mut manifest = self.about.clone();
        manifest["files"] = Value::Object(files);
        let text = serde_json::to_string_pretty(&manifest)? + "\n";
        sizes.insert("manifest.json".to_owned(), text.len() as u64);
        shell::write_whole(&self.folder.join("manifest.json"), &text)?;
        Ok(sizes)
    }
}

/// Files below `folder`, sorted.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut left) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() { left.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// Commit, versions and profile: where the programs come from.
pub(super) fn about(profile: &str) -> Value {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(shell::root()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    json!({
        "kit": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "commit": said("git", &["rev-parse", "HEAD"]),
        "uncommitted_changes": changed.map(|lines| !lines.is_empty()),
        "rustc": said("rustc", &["--version"]),
        "profile": profile,
    })
}
