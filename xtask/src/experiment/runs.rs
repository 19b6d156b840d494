//! `ama run` for one experiment, and what comes out of it.
//!
//! Every run has one thread, so that its bits do not depend on the machine's number of cores; whole experiments run side
//! by side instead.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;

use super::suite::Size;
use crate::shell;

/// Results of one method in one run.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) size: Size,
    /// Tokens of the generalists; `None` for what has no budget.
    pub(crate) tokens: Option<u64>,
    pub(crate) seed: u64,
    pub(crate) method: String,
    /// Task to metrics, as in `results.json`.
    pub(crate) tasks: Value,
}

/// The `ama` that was built, with one thread.
pub(crate) fn ama() -> Command {
    let name = format!("ama{}", std::env::consts::EXE_SUFFIX);
    let mut command = Command::new(shell::target().join("release").join(name));
    command.current_dir(shell::root()).args(["--threads", "1"]);
    command
}

/// `ama run CONFIG --out FOLDER --set ...`: nothing if the folder is finished.
///
/// # Errors
/// The run failed.
pub(crate) fn run(config: &Path, folder: &Path, sets: &[String]) -> Result<()> {
    let mut command = ama();
    command.arg("run").arg(config).args(["--json", "--out"]).arg(folder);
    for set in sets {
        command.args(["--set", set]);
    }
    shell::say(&format!("run: {}", folder.display()));
    shell::json(&mut command)?;
    Ok(())
}

/// Parts of a run folder that do not depend on the generalists.
pub(crate) const FIRST_STAGE: &[&str] = &["run.json", "base", "specialists", "cache", "losses", "data"];

/// Copies `parts` of a finished run into a new one, where `ama run` finds them done. Nothing if the new one exists.
///
/// # Errors
/// A folder could not be read or written.
pub(crate) fn share(parts: &[&str], from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    let temporary = to.with_extension("new");
    if temporary.exists() {
        fs::remove_dir_all(&temporary).with_context(|| format!("cannot remove {}", temporary.display()))?;
    }
    fs::create_dir_all(&temporary).with_context(|| format!("cannot create {}", temporary.display()))?;
    for part in parts {
        copy(&from.join(part), &temporary.join(part))?;
    }
    fs::rename(&temporary, to).with_context(|| format!("cannot create {}", to.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("cannot copy {} to {}", from.display(), to.display());
    if !from.is_dir() {
        fs::copy(from, to).with_context(context)?;
        return Ok(());
    }
    fs::create_dir(to).with_context(context)?;
    for entry in fs::read_dir(from).with_context(context)? {
        let name = entry.with_context(context)?.file_name();
        copy(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

/// Every method of a finished run, base and specialists among them, which have no budget.
///
/// # Errors
/// `results.json` is missing or is not what `ama run` writes.
pub(crate) fn read(folder: &Path, size: Size, tokens: u64, seed: u64) -> Result<Vec<Outcome>> {
    let file = folder.join("results.json");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let results: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))?;
    let methods = results["methods"].as_array().with_context(|| format!("{}: no methods", file.display()))?;
    Ok(methods
        .iter()
        .map(|method| {
            let name = method["name"].as_str().unwrap_or_default().to_owned();
            let tokens = (!matches!(name.as_str(), "base" | "specialists")).then_some(tokens);
            Outcome { size, tokens, seed, method: name, tasks: method["tasks"].clone() }
        })
        .collect())
}

/// Does independent pieces of work, `jobs` at a time (as many as there are cores unless given); the outcomes are in the
/// order of the pieces. After an error no new piece is begun.
///
/// # Errors
/// The error of the first piece that has one.
pub(crate) fn side_by_side<T: Sync, R: Send>(
    jobs: Option<NonZeroUsize>,
    pieces: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let jobs = jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<Option<Result<R>>>> = Mutex::new(pieces.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(pieces.len()) {
            scope.spawn(|| {
                while let Some((index, piece)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    pieces.get(index).map(|piece| (index, piece))
                } {
                    let outcome = work(piece);
                    if outcome.is_err() {
                        next.store(pieces.len(), Ordering::Relaxed);
                    }
                    outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[index] = Some(outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (ended, left): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Option::is_some);
    let ended = ended.into_iter().flatten().collect::<Result<Vec<R>>>()?;
    if left.is_empty() { Ok(ended) } else { Err(anyhow!("{} pieces of work were not begun", left.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_their_order_and_an_error_ends_the_work() {
        let pieces: Vec<u64> = (0..50).collect();
        for jobs in [1, 3, 80] {
            let doubled = side_by_side(NonZeroUsize::new(jobs), &pieces, |&n| Ok(2 * n)).unwrap();
            assert_eq!(doubled, pieces.iter().map(|n| 2 * n).collect::<Vec<_>>());
        }
        let begun = AtomicUsize::new(0);
        let failed = side_by_side(NonZeroUsize::new(1), &pieces, |&n| {
            begun.fetch_add(1, Ordering::Relaxed);
            if n == 7 { Err(anyhow!("piece {n}")) } else { Ok(()) }
        });
        assert_eq!(failed.unwrap_err().to_string(), "piece 7");
        assert_eq!(begun.into_inner(), 8);
    }
}
