//! `cargo xtask experiment`: every method on the embedded suite, over seeds, size sets and budgets.
//!
//! A seed decides on the base model, the specialists and the generalists together, so an interval over seeds is one over
//! whole experiments. All generalists of a budget see the same number of tokens; merges of the specialists see none. Test
//! pairs are looked at once; what is chosen (the parameters of a merge) is chosen on validation pairs.

mod merges;
mod stats;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::{pipeline, shell};

/// What to run, and where to.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seeds of whole experiments
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4,5")]
    seeds: Vec<u64>,
    /// Size sets of the suite
    #[arg(long, value_enum, value_delimiter = ',', default_value = "b,a")]
    sizes: Vec<Size>,
    /// Tokens of a generalist
    #[arg(long, value_delimiter = ',', default_value = "48000,96000,192000")]
    tokens: Vec<u64>,
    /// Folder of all runs and of results.md; finished runs in it are kept
    #[arg(long, value_name = "DIR", default_value = "runs/experiment")]
    out: PathBuf,
}

/// A size set: how many pairs of each task there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Size {
    /// helpful 6000, harmless 1500, reasoning 400
    A,
    /// helpful 1500, harmless 6000, reasoning 400
    B,
}

impl Size {
    fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::A => "datasets/experiment-size-a.toml",
            Self::B => "datasets/experiment.toml",
        }
    }
}

/// Results of one method in one run.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    size: &'static str,
    /// Tokens of the generalists; `None` for what has no budget.
    tokens: Option<u64>,
    seed: u64,
    method: String,
    /// Task to metrics, as in `results.json`.
    tasks: Value,
}

/// Runs what is missing and writes the tables.
///
/// # Errors
/// A build or a run failed, or a folder could not be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    pipeline::build()?;
    let out = shell::root().join(&options.out);
    let mut outcomes = Vec::new();
    for size in &options.sizes {
        for &seed in &options.seeds {
            let home = out.join(format!("size-{}", size.name())).join(format!("seed-{seed}"));
            let mut first: Option<PathBuf> = None;
            for &tokens in &options.tokens {
                let folder = home.join(format!("tokens-{tokens}"));
                if let Some(first) = &first {
                    share_first_stage(first, &folder)?;
                }
                let sets = [
                    format!("seed={seed}"),
                    format!("generalist.tokens={tokens}"),
                    format!("generalist.seeds=[{seed}]"),
                ];
                ama_run(size.config(), &folder, &sets)?;
                outcomes.extend(read_run(&folder, size.name(), tokens, seed, first.is_none())?);
                first.get_or_insert(folder);
            }
            if let Some(first) = &first {
                outcomes.extend(merges::all(first, size.name(), seed)?);
            }
        }
    }
    let text = table::markdown(&outcomes);
    let file = out.join("results.md");
    fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    shell::say(&format!("{text}\ntables in {}", file.display()));
    Ok(())
}

/// The `ama` that was built.
fn ama() -> Command {
    let mut command =
        Command::new(shell::target().join("release").join(format!("ama{}", std::env::consts::EXE_SUFFIX)));
    command.current_dir(shell::root());
    command
}

/// `ama run CONFIG --out FOLDER --set ...`: nothing if the folder is finished.
fn ama_run(config: &str, folder: &Path, sets: &[String]) -> Result<()> {
    let mut command = ama();
    command.args(["run", config, "--json", "--out"]).arg(folder);
    for set in sets {
        command.args(["--set", set]);
    }
    shell::say(&format!("experiment: {}", folder.display()));
    shell::json(&mut command)?;
    Ok(())
}

/// Copies base, specialists and caches of a finished run, which do not depend on the budget; `ama run` finds them done.
fn share_first_stage(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    let temporary = to.with_extension("new");
    if temporary.exists() {
        fs::remove_dir_all(&temporary).with_context(|| format!("cannot remove {}", temporary.display()))?;
    }
    fs::create_dir_all(&temporary).with_context(|| format!("cannot create {}", temporary.display()))?;
    for part in ["run.json", "base", "specialists", "cache", "losses", "data"] {
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

/// Every method of a run; base and specialists, the same for every budget, only if `with_first_stage`.
fn read_run(
    folder: &Path,
    size: &'static str,
    tokens: u64,
    seed: u64,
    with_first_stage: bool,
) -> Result<Vec<Outcome>> {
    let file = folder.join("results.json");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let results: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))?;
    let methods = results["methods"].as_array().with_context(|| format!("{}: no methods", file.display()))?;
    let mut outcomes = Vec::new();
    for method in methods {
        let name = method["name"].as_str().unwrap_or_default().to_owned();
        let budget = (!matches!(name.as_str(), "base" | "specialists")).then_some(tokens);
        if budget.is_some() || with_first_stage {
            outcomes.push(Outcome {
                size,
                tokens: budget,
                seed,
                method: name,
                tasks: method["tasks"].clone(),
            });
        }
    }
    Ok(outcomes)
}
