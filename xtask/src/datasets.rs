//! `cargo xtask datasets`: the committed suite is what the generator writes, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{pipeline, shell};

/// The seed of the committed suite.
const SEED: &str = "1";

/// Size set of the committed suite: both A and B are its first rows.
const SIZES: &str = "union";

/// Its folder below datasets/.
const NAME: &str = "suite";

/// What to do about a difference.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Fail if a byte differs and leave datasets/ as it is
    #[arg(long)]
    check: bool,
}

/// Generates the suite beside the committed one, says what differs, and (without `--check`) replaces it.
///
/// # Errors
/// The build or the generator failed, a file could not be read or written, or `--check` found a difference.
pub(crate) fn run(options: &Options) -> Result<()> {
    pipeline::build()?;
    let datasets = shell::root().join("datasets");
    let mut changed = Vec::new();
    let committed = datasets.join(NAME);
    let fresh = shell::root().join("target").join("datasets").join(NAME);
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| format!("cannot remove {}", fresh.display()))?;
    }
    if let Some(parent) = fresh.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    let out = fresh.to_string_lossy().into_owned();
    #[rustfmt::skip]
    let args = [
        "run", "--quiet", "--release", "--package", "ama-cli", "--bin", "ama", "--",
        "suite", "generate", "--seed", SEED, "--sizes", SIZES, "--out", &out,
    ];
    shell::run(&mut shell::cargo(&args))?;
    let (old, new) = (contents(&committed)?, contents(&fresh)?);
    let mut names: Vec<_> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    for path in names {
        if old.get(path) != new.get(path) {
            changed.push(format!("datasets/{NAME}/{}", path.display()));
        }
    }
    if !options.check {
        for (path, bytes) in &new {
            let target = committed.join(path);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
            }
            if old.get(path) != Some(bytes) {
                fs::write(&target, bytes).with_context(|| format!("cannot write {}", target.display()))?;
            }
        }
        for path in old.keys().filter(|path| !new.contains_key(*path)) {
            let target = committed.join(path);
            fs::remove_file(&target).with_context(|| format!("cannot remove {}", target.display()))?;
        }
    }
    if changed.is_empty() {
        shell::say("datasets: regenerated, every byte as committed");
        return Ok(());
    }
    for path in &changed {
        shell::say(&format!("datasets: differs: {path}"));
    }
    if options.check {
        bail!("{} files differ from what the generator writes; run `cargo xtask datasets`", changed.len());
    }
    shell::say(&format!("datasets: {} files changed", changed.len()));
    Ok(())
}

/// Every file below a folder, by relative path; empty if the folder does not exist.
fn contents(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        if !next.exists() {
            continue;
        }
        for entry in fs::read_dir(&next).with_context(|| format!("cannot list {}", next.display()))? {
            let path = entry.with_context(|| format!("cannot list {}", next.display()))?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                found.insert(path.strip_prefix(folder).unwrap_or(&path).to_path_buf(), bytes);
            }
        }
    }
    Ok(found)
}
